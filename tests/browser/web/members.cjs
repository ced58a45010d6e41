// node members.cjs TYPESCRIPT DECLARATIONS: prints the declarations of chimirror.d.ts as JSON.
const ts = require(process.argv[2]);
const file = process.argv[3];
const program = ts.createProgram([file], { target: ts.ScriptTarget.ESNext });
const checker = program.getTypeChecker();
const exported = checker.getExportsOfModule(
  checker.getSymbolAtLocation(program.getSourceFile(file)),
);
const values = exported.filter((each) => each.flags & ts.SymbolFlags.Value);
const members = (name) =>
  [...exported.find((each) => each.name === name).members.keys()].sort();
console.log(JSON.stringify({
  values: values.map(({ name }) => name).sort(),
  Session: members("Session"),
  Control: members("Control"),
}));
