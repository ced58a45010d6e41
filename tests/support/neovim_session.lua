-- Drives Neovim with a language server, for tests/programs/test_editors.py.
--
-- Prints JSON, one line for each step. The open file has a mistake in its last line.

local PATIENCE = 50000 -- milliseconds; is reached only by a wait that fails its test

local function say(what, value)
  io.stdout:write(vim.fn.json_encode({ what, value }) .. "\n")
end

local function await(what, ask)
  if not vim.wait(PATIENCE, ask, 20) then
    say("not in time", what)
    vim.cmd("cquit")
  end
end

local function messages()
  return vim.tbl_map(function(found)
    return found.message
  end, vim.diagnostic.get(0))
end

local function ask(method, line, character)
  local params = vim.lsp.util.make_text_document_params()
  params = { textDocument = params, position = { line = line, character = character } }
  local answers = vim.lsp.buf_request_sync(0, method, params, PATIENCE)
  local _, answer = next(answers or {})
  return answer and answer.result
end

await("a mistake", function()
  return #messages() > 0
end)
say("mistakes", messages())
say("hover", ask("textDocument/hover", 4, 2).contents.value)
say("definition", ask("textDocument/definition", 4, 2)[1].range.start.line)
local items = ask("textDocument/completion", 4, 3).items
say("completion", vim.tbl_map(function(item)
  return item.label
end, items))

vim.api.nvim_buf_set_lines(0, -2, -1, true, { "greet('é😀')" })
await("no mistake", function()
  return #messages() == 0
end)
say("mistakes", messages())
vim.cmd("qall!")
