-- Neovim with a remote language server. Append this to ~/.config/nvim/init.lua.
--
-- `make editor` serves pylsp at this URL. The server sees only the files of its own
-- machine: below the same paths, it can read more than the files that are open here.

local config = {
  name = "pylsp",
  cmd = { "chimirror-connect", "ws://127.0.0.1:30747/pylsp" },
  -- A process of this machine. Some servers exit if theirs has no such process.
  before_init = function(params)
    params.processId = vim.NIL
  end,
}

if vim.lsp.config then -- Neovim 0.11 and newer
  config.filetypes = { "python" }
  config.root_markers = { "pyproject.toml", ".git" }
  vim.lsp.config("pylsp", config)
  vim.lsp.enable("pylsp")
else -- Neovim 0.7 to 0.10
  local client
  config.root_dir = vim.fn.getcwd()
  config.on_exit = function()
    client = nil -- the next Python file starts another server
  end
  vim.api.nvim_create_autocmd("FileType", {
    pattern = "python",
    callback = function(event)
      client = client or vim.lsp.start_client(config)
      if client then
        vim.lsp.buf_attach_client(event.buf, client)
      end
    end,
  })
end
