import { expect, it } from 'vitest';
import type { Span } from '../api/telemetry';
import { waterfall } from './waterfall';

const span = (id: string, parent: string | null, began: number, duration: number, more: Partial<Span> = {}): Span => ({
  span_id: id, parent_id: parent, name: id, service: 'web', version: 'v1', instance: 'web-v1-1', time: '', began_us: began, duration_us: duration, status: 'ok', attributes: {}, ...more,
});

it('puts what was caused below its cause, in the order of time', () => {
  const { rows, durationUs, services, failed } = waterfall([
    span('c', 'a', 160, 20, { service: 'cart', status: 'error' }),
    span('a', null, 100, 100),
    span('b', 'a', 110, 40),
    span('d', 'b', 120, 10),
  ]);
  expect(rows.map((row) => [row.span.span_id, row.depth])).toEqual([['a', 0], ['b', 1], ['d', 2], ['c', 1]]);
  expect(rows[3]).toMatchObject({ start: 0.6, length: 0.2, isOrphan: false });
  expect([durationUs, services, failed]).toEqual([100, ['web', 'cart'], 1]);
});

it('shows spans without their parent, and circles', () => {
  const { rows } = waterfall([span('a', 'gone', 0, 10), span('b', 'c', 5, 1), span('c', 'b', 6, 1), span('d', 'd', 7, 1)]);
  expect(rows.map((row) => row.span.span_id).sort()).toEqual(['a', 'b', 'c', 'd']);
  expect(rows[0]?.isOrphan).toBe(true);
});

it('divides a call into its way, its wait and its work', () => {
  const call = span('a', null, 0, 100, { attributes: { kind: 'client', network_us: 40, queue_us: 10, handler_us: 50 } });
  const served = span('b', 'a', 20, 60, { attributes: { kind: 'server', queue_us: 0, handler_us: 50 } });
  const { rows } = waterfall([call, served]);
  expect(rows[0]?.segments.map(({ part, us }) => [part, us])).toEqual([['network', 20], ['queue', 10], ['handler', 50], ['network', 20]]);
  expect(rows[1]?.segments).toEqual([{ part: 'handler', us: 50 }]);
});
