const base = require("../../jest.config.js");

/** Real servers on their standard ports, so one file at a time; started by run.sh, which makes the network they live in. */
module.exports = {
  ...base,
  rootDir: "../..",
  testMatch: ["<rootDir>/test/engines/**/*.test.ts"],
  maxWorkers: 1,
  testTimeout: 120_000,
  // A test that ran out of time may have left a server or a pod, which would keep Jest waiting. They end with the namespace.
  forceExit: true,
};
