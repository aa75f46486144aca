export * from "./backup";
export * from "./restore";
export * from "./storage";
export * from "../lib";
