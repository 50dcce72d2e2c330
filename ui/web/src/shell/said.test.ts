import { expect, it } from 'vitest';
import { ApiError } from '../api/client';
import { outcomeOf, whyNot } from './said';

it('says what became of a file without what only the command line can do', () => {
  expect(outcomeOf(['10000 events imported', 'the time of the events is column "at"; --time names another', '1 line was not taken:', '  line 3: no time; --time names another', 'dashboards/a.yaml is kept'])).toEqual({
    first: '10,000 events imported', remarks: ['The time of the events is column "at"', '1 line was not taken:\nline 3: no time', 'dashboards/a.yaml is kept'],
  });
  expect(outcomeOf(['3 events were imported before; nothing was added (--again takes the file once more)']).first).toBe(
    '3 events were imported before; nothing was added',
  );
});

it('says why a file was not opened, once', () => {
  expect(whyNot('a.bin', new ApiError(200, 'FAILED', 'cannot open a.bin: it is no text'))).toEqual({ message: 'It is no text', code: undefined });
  expect(whyNot('a.bin', new ApiError(413, 'SER-HTTP-003', 'the file is longer than 4 GiB')).code).toBe('SER-HTTP-003');
  expect(whyNot('a', undefined).message).toContain('folder');
});
