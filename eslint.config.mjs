import js from "@eslint/js";
import ts from "typescript-eslint";

/** Rules that the architecture rests on; the rest is the two recommended sets. */
export default ts.config(
  { ignores: ["dist/", "cdktf.out/", "node_modules/"] },
  js.configs.recommended,
  ...ts.configs.recommended,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    files: ["**/*.ts"],
    rules: {
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-misused-promises": "error",
      "@typescript-eslint/await-thenable": "error",
      "@typescript-eslint/explicit-module-boundary-types": "error",
      "@typescript-eslint/no-non-null-assertion": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", destructuredArrayIgnorePattern: "^_", ignoreRestSiblings: true }],
      "no-restricted-imports": [
        "error",
        {
          paths: [
            { name: "@cdktf/provider-kubernetes", message: "import the class by its deep path; the barrel loads 98 MB" },
            { name: "@cdktf/provider-helm", message: "import the class by its deep path" },
            { name: "cdktn", message: "import from cdktf; the exit to cdktn is an npm alias" },
          ],
        },
      ],
    },
  },
  {
    files: ["test/**", "bench/**"],
    rules: { "@typescript-eslint/explicit-module-boundary-types": "off" },
  },
  {
    files: ["**/*.js", "**/*.mjs"],
    rules: { "@typescript-eslint/no-require-imports": "off" },
    languageOptions: { globals: { require: "readonly", module: "writable", process: "readonly", console: "readonly", __dirname: "readonly" } },
  },
);
