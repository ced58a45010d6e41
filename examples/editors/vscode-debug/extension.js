// VS Code with a remote debugger. Install this directory by the command "Developer:
// Install Extension from Location...", and add a configuration of "Remote debugger" to
// launch.json. Other debuggers of the same protocol need other attributes than those of
// debugpy, and other languages in package.json.
//
// `make editor` serves debugpy at the URL of package.json. The program runs on the
// machine of the server, where it must have the same path. Consoles other than
// "internalConsole" start it on the machine of VS Code.
"use strict";
const vscode = require("vscode");

exports.activate = (context) => {
  context.subscriptions.push(
    vscode.debug.registerDebugAdapterDescriptorFactory("chimirror", {
      createDebugAdapterDescriptor: ({ configuration }) =>
        new vscode.DebugAdapterExecutable("chimirror-connect", [configuration.url]),
    }),
  );
};
