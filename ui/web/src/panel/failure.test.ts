import { expect, it } from 'vitest';
import { brief } from './failure';

it('leaves a short sentence as it is', () => {
  expect(brief('no column "amuont"; it has amount')).toEqual({ short: 'No column "amuont"; it has amount', more: undefined });
});

it('cuts what an engine says at a clause, a line or a word, and keeps the whole', () => {
  const fields = Array.from({ length: 30 }, (_, at) => `"order.paid".column_${at}`).join(', ');
  const schema = `Schema error: No field named amuont. Valid fields are ${fields}.`;
  expect(brief(schema)).toEqual({ short: 'Schema error: No field named amuont', more: schema });
  expect(brief('it failed\ncaused by\nsomething').short).toBe('It failed');
  expect(brief('word '.repeat(60)).short).toMatch(/word …$/);
});

it('adds what the server tells apart', () => {
  expect(brief('it failed', 'Error { inner }')).toEqual({ short: 'It failed', more: 'it failed\n\nError { inner }' });
});
