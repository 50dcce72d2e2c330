import { expect, it } from 'vitest';
import { ownPage, readUrl, writeUrl } from './url';

it('reads back what it wrote', () => {
  for (const address of [
    '/',
    '/explore?sql=SELECT+1',
    '/decisions',
    '/map',
    '/logs?from=now-1h&to=now&service=cart&level=warn&text=a+b',
    '/traces/4bf92f3577b34da6a3ce929d0e0e4736?at=2026-11-24T03:00:00Z',
    '/d/weblog?from=2015-05-17T10:00:00Z&to=2015-05-20T21:10:00Z&panel=pages&only.status=4xx',
    '/d/my%20shop?from=now-6h&to=now&theme=dark&kiosk=1',
  ]) {
    const [path = '', search = ''] = address.split(/(?=\?)/);
    expect(writeUrl(readUrl(path, search))).toBe(address);
  }
});

it('takes half a range for none', () => {
  expect(readUrl('/d/weblog', '?from=now-1h').range).toBeUndefined();
});

it('does not guess pages', () => {
  expect(readUrl('/nope', '').route).toEqual({ page: 'unknown', path: '/nope' });
  expect(readUrl('/d/a/b', '').route.page).toBe('unknown');
  expect(readUrl('/d/%E0%A4%A', '').route).toEqual({ page: 'dashboard', name: '%E0%A4%A' });
});

it('goes only to pages of ours after signing in, with query and fragment', () => {
  const to = (wanted: string | null): string => ownPage(wanted, 'http://127.0.0.1:7070');
  for (const page of ['/services', '/traces?service=cart&status=error', '/explore?sql=SELECT+1%2F2', '/d/a#b', '/logs?text=%5Cd%2B#end']) expect(to(page)).toBe(page);
  for (const bad of [null, '', '//evil.example', '/\\evil.example', '/\t/evil.example', 'https://evil.example/', 'javascript:alert(1)', '/.//evil.example', '/signin?code=a']) expect(to(bad)).toBe('/');
});
