const base = require("../../jest.config.js");

/** One cluster, one file at a time. */
module.exports = { ...base, rootDir: "../..", testMatch: ["<rootDir>/test/cluster/**/*.test.ts"], maxWorkers: 1, testTimeout: 300_000 };
