/** @type {import("jest").Config} */
module.exports = {
  testMatch: ["<rootDir>/test/{lib,runtime,constructs,stacks,structure,examples}/**/*.test.ts"],
  transform: { "\\.ts$": ["@swc/jest", { jsc: { parser: { syntax: "typescript" }, target: "es2023" }, module: { type: "commonjs" } }] },
  maxWorkers: 2,
};
