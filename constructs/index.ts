export * from "./backup";
export * from "./storage";
