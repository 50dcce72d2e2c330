/** The service %NAME%: %WHAT%. */

%WEB%import { html, service, type WebRequest, type WebResponse } from "serin-sdk";
%BUS%import { service } from "serin-sdk";

export const app = service();

/** Greets somebody, and says so. */
function greeting(name: string): string {
  app.emit("%NAME%.greeted", { name });
  return `Hello, ${name}!`;
}

%WEB%export function page(request: WebRequest): WebResponse {
%WEB%  return html(escaped(greeting(request.query["name"] ?? "world")));
%WEB%}
%WEB%
export function greet({ name = "world" }: { name?: string }): { text: string } {
  return { text: greeting(name) };
}
%WEB%
%WEB%/** Text as it may stand in a page. */
%WEB%function escaped(text: string): string {
%WEB%  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
%WEB%}

%WEB%app.web(page);
app.endpoint("greet", greet);
