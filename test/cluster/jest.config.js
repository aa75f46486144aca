const base = require("../../jest.config.js");

/** One cluster, one file at a time. What a test that failed leaves running ends with its namespaces. */
module.exports = { ...base, rootDir: "../..", testMatch: ["<rootDir>/test/cluster/**/*.test.ts"], maxWorkers: 1, testTimeout: 300_000, forceExit: true };
