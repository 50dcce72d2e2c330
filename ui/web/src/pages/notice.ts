// What a page says above its content when something failed.
import type { ApiError } from '../api/client';
import { h, withCode } from '../dom';
import { errorCode } from '../error_code';
import { sentence } from '../format/sentence';
import { icon } from '../icons';

export function failureNotice({ message, code }: ApiError): HTMLElement {
  return h('div', { class: 'notice bad', role: 'alert' }, icon('warning'), h('span', {}, ...withCode(sentence(message))), errorCode(code));
}
