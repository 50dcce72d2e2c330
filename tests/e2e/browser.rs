//! Chromium looks at the weblog dashboard; `tests/browser/weblog.mjs` drives it.
