/** Typed events: a type's name together with the shape of its data. */

declare const DATA: unique symbol;

/** An event type whose data are a `T`; made by {@link defineEvent}. */
export interface EventType<T extends object> {
  /** The event type, `order.paid`. */
  readonly type: string;
  /** Only for the compiler; nothing is there at run time. */
  readonly [DATA]?: T;
}

/**
 * Names an event type and the shape of its data, so that the compiler checks what is emitted.
 *
 * @example
 * const orderPaid = defineEvent<{ amount: number; currency: string }>("order.paid");
 * serin.emit(orderPaid, { amount: 19.9, currency: "EUR" });
 */
export function defineEvent<T extends object>(type: string): EventType<T> {
  return { type };
}
