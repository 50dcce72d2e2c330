// Builds the application into `dist`, which the server embeds and serves at `/`.
//
// The server's content security policy is `default-src 'self'`, so nothing is ever inlined: no
// data URLs, no inline script. `npm run dev` proxies the API to the mock server (`npm run mock`).
import { defineConfig } from 'vitest/config';

const server = 'http://127.0.0.1:7071';

export default defineConfig({
  base: '/',
  build: {
    target: ['chrome123', 'firefox128', 'safari17.5'],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 400,
  },
  server: { proxy: { '/api': server, '/docs': server } },
  test: { include: ['src/**/*.test.ts'] },
});
