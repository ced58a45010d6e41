-- Neovim with a remote debugger, by the plugin nvim-dap. Append this to
-- ~/.config/nvim/init.lua, after the plugin.
--
-- `make editor` serves debugpy at this URL. The program runs on the machine of the
-- server, where it must have the same path.

local dap = require("dap")

dap.adapters.debugpy_remote = {
  type = "executable",
  command = "chimirror-connect",
  args = { "ws://127.0.0.1:30747/debugpy" },
}

dap.configurations.python = dap.configurations.python or {}
table.insert(dap.configurations.python, {
  name = "On the server",
  type = "debugpy_remote",
  request = "launch",
  program = "${file}",
  cwd = "${workspaceFolder}",
  console = "internalConsole", -- the others start the program on this machine
})
