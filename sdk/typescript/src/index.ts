/**
 * Serin for a service in TypeScript or JavaScript: emit events, serve and call, and beats and traces
 * come along.
 *
 * `emit` never waits. Events travel in numbered batches, are kept until the bus has them on disk, wait
 * on our own disk while it is away, and arrive once. What is exported here is the public face.
 *
 * @packageDocumentation
 */

export type { CallOptions, Reply } from "./calls/call.js";
export { chain, stage, type Chain, type ChainOptions, type Enhanced, type Stage } from "./calls/chain.js";
export type { Data, Hop, HopStatus, Packet } from "./calls/packet.js";
export { Context, type ContextParts } from "./context.js";
export type { Counts } from "./core.js";
export type { Reason } from "./dropped.js";
export { AbsentError, CallError, ChainError, ConnectError } from "./errors.js";
export { defineEvent, type EventType } from "./event.js";
export { Logger, type Fields, type Level } from "./log.js";
export type { State } from "./memory/shared.js";
export type { Options } from "./options.js";
export type { EndpointOptions, Handler, Schema } from "./serve/endpoint.js";
export type { Task } from "./serve/periodic.js";
export { html, redirect, WebRequest, WebResponse, type Chunks, type WebHandler, type WebHeaders } from "./serve/web.js";
export { connect, Serin, Service, service, type ServiceOptions } from "./serin.js";
export type { Attributes, Span } from "./span.js";
export type { Trace } from "./trace.js";
