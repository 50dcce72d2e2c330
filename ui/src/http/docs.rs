//! The book at `/docs`: Markdown out of the binary, in the frame of the application.
//!
//! `docs/SUMMARY.md` is the table of contents at the side and the order of reading. A page is found
//! by its name alone, so that no path of a reader reaches a file. The colours and the bar on top are
//! the application's own style sheets; the one script only takes over the theme chosen there, and has the
//! bar of a narrow screen begin where one is.

mod markdown;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;

use super::error::ApiError;
use markdown::{Heading, escape, served_at, slug, to_page};

#[derive(Embed)]
#[folder = "../docs/"]
struct Book;

const STYLE: &str = concat!(
    include_str!("../../web/src/styles/base.css"),
    include_str!("../../web/src/styles/shell.css"),
    include_str!("docs.css"),
);
const SCRIPT: &str = "// The theme chosen in the application holds for the book too.
try {
  const theme = localStorage.getItem('serin.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch { /* Storage may be forbidden; then the system decides. */ }
addEventListener('DOMContentLoaded', () => document.querySelector('.app-bar [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' }));
";
const SUMMARY: &str = "SUMMARY.md";
/// Below this many headings a page needs no list of them.
const HEADINGS_MIN: usize = 2;

/// The bar of the application, with the same links.
const BAR: &str = r##"<a class="skip" href="#main">To the content</a>
<header class="app-bar"><a class="brand" href="/" aria-label="Serin, dashboards"><svg class="logo" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" class="logo-ground"/><path class="logo-bird" d="M5 21c5.500 1 8-1.500 9.500-6C15.800 11 18.200 8.500 22 8.500c2 0 3.300.9 4 2.300l2.500 1-2.500 1.400C25.500 20 21 24.500 14 24.500c-4 0-7-1.300-9-3.500z"/><circle class="logo-ground" cx="22.3" cy="11.8" r="1.25"/></svg><span>Serin</span></a>
<nav aria-label="Pages"><a class="nav-link" href="/">Dashboards</a><a class="nav-link" href="/services">Services</a><a class="nav-link" href="/map">Map</a><a class="nav-link" href="/logs">Logs</a><a class="nav-link" href="/traces">Traces</a><a class="nav-link" href="/explore">Explore</a><a class="nav-link" href="/decisions">Decisions</a><a class="nav-link" href="/docs" aria-current="page">Docs</a></nav></header>
"##;

/// A line of the table of contents; one without a page heads those below it.
struct Entry {
    title: String,
    page: Option<String>,
    is_nested: bool,
}

/// The first page.
pub(crate) async fn first() -> Response {
    match ["README.md", "introduction.md", SUMMARY]
        .into_iter()
        .find(|page| Book::get(page).is_some())
    {
        Some(page) => rendered(page),
        None => ApiError::not_found("the book is not built into this program").into_response(),
    }
}

/// One page, `NAME` or `NAME.html`; `decisions` are joined with a dash: `decisions-001-…`.
pub(crate) async fn page(Path(page): Path<String>) -> Response {
    match page.as_str() {
        "style.css" => return file("text/css; charset=utf-8", STYLE),
        "theme.js" => return file("text/javascript; charset=utf-8", SCRIPT),
        _ => {}
    }
    let name = page.strip_suffix(".html").unwrap_or(&page);
    let found = Book::iter().find(|path| path.ends_with(".md") && slug(path) == name);
    match found {
        Some(path) => rendered(&path),
        None => missing(name),
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

fn text_of(path: &str) -> String {
    Book::get(path)
        .map(|file| String::from_utf8_lossy(&file.data).into_owned())
        .unwrap_or_default()
}

fn rendered(path: &str) -> Response {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let page = to_page(&text_of(path), folder);
    let entries = entries(&text_of(SUMMARY), |path| Book::get(path).is_some());
    let here = format!("/docs/{}", slug(path));
    let body = format!(
        "<article class=\"prose\">{}</article>{}",
        page.html,
        neighbours(&entries, &here)
    );
    let title = page.title.as_deref().unwrap_or("The Serin book");
    html(framed(title, &entries, &here, &body, &page.headings))
}

fn missing(name: &str) -> Response {
    let entries = entries(&text_of(SUMMARY), |path| Book::get(path).is_some());
    let body = format!(
        "<article class=\"prose\"><h1>There is no such page</h1>\
         <p>The book has no page <code>{}</code>. <a href=\"/docs\">To its beginning</a></p></article>",
        escape(name)
    );
    let page = framed("No such page", &entries, "", &body, &[]);
    (StatusCode::NOT_FOUND, html(page)).into_response()
}

fn html(page: String) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// A whole page: the bar, the contents (folded away on narrow screens), the text, its headings.
fn framed(title: &str, entries: &[Entry], here: &str, body: &str, headings: &[Heading]) -> String {
    let title = escape(title);
    let contents = contents(entries, here);
    let outline = outline(headings);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{title} · Serin</title>\
         <link rel=\"icon\" type=\"image/svg+xml\" href=\"/favicon.svg\">\
         <link rel=\"stylesheet\" href=\"/docs/style.css\">\
         <script src=\"/docs/theme.js\"></script></head>\n\
         <body>{BAR}<div class=\"book\">\
         <details class=\"book-menu\"><summary>Contents<span>{title}</span></summary>{contents}</details>\
         <nav class=\"book-side\" aria-label=\"Contents\">{contents}</nav>\
         <main id=\"main\">{body}</main>{outline}</div></body></html>\n"
    )
}

/// The lines of the table of contents whose pages are in the book, and the heads of those.
fn entries(summary: &str, is_there: impl Fn(&str) -> bool) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in summary.lines() {
        let Some(item) = line.trim_start().strip_prefix("- ") else {
            continue;
        };
        let link = item
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|rest| rest.split_once("]("));
        if link.is_some_and(|(_, path)| !is_there(path.trim_start_matches("./"))) {
            continue;
        }
        entries.push(Entry {
            title: link.map_or(item, |(title, _)| title).to_owned(),
            page: link.map(|(_, path)| served_at(path, "")),
            is_nested: line.starts_with(' '),
        });
    }
    let has_pages = |at: usize| {
        entries[at].page.is_some() || entries.get(at + 1).is_some_and(|next| next.is_nested)
    };
    let kept: Vec<bool> = (0..entries.len()).map(has_pages).collect();
    let mut kept = kept.into_iter();
    entries.retain(|_| kept.next() == Some(true));
    entries
}

fn contents(entries: &[Entry], here: &str) -> String {
    let mut out = String::from("<ul>");
    for Entry {
        title,
        page,
        is_nested,
    } in entries
    {
        let class = if *is_nested { " class=\"nested\"" } else { "" };
        let title = escape(title);
        let line = match page {
            Some(page) if page == here => {
                format!(
                    "<a href=\"{}\" aria-current=\"page\">{title}</a>",
                    escape(page)
                )
            }
            Some(page) => format!("<a href=\"{}\">{title}</a>", escape(page)),
            None => format!("<span>{title}</span>"),
        };
        out.push_str(&format!("<li{class}>{line}</li>"));
    }
    out.push_str("</ul>");
    out
}

/// The pages before and after this one in the order of reading.
fn neighbours(entries: &[Entry], here: &str) -> String {
    let pages: Vec<(&str, &str)> = entries
        .iter()
        .filter_map(|entry| Some((entry.page.as_deref()?, entry.title.as_str())))
        .collect();
    let Some(at) = pages.iter().position(|(page, _)| *page == here) else {
        return String::new();
    };
    let link = |(page, title): &(&str, &str), way: &str, word: &str| {
        format!(
            "<a class=\"{way}\" rel=\"{way}\" href=\"{}\"><small>{word}</small>{}</a>",
            escape(page),
            escape(title)
        )
    };
    let before = at.checked_sub(1).and_then(|at| pages.get(at));
    let before = before.map_or(String::new(), |page| link(page, "prev", "Previous"));
    let after = pages.get(at + 1);
    let after = after.map_or(String::new(), |page| link(page, "next", "Next"));
    format!("<nav class=\"neighbours\" aria-label=\"Pages beside this one\">{before}{after}</nav>")
}

fn outline(headings: &[Heading]) -> String {
    let second: Vec<&Heading> = headings.iter().filter(|one| one.level == 2).collect();
    if second.len() < HEADINGS_MIN {
        return String::new();
    }
    let lines: String = second
        .iter()
        .map(|one| {
            format!(
                "<li><a href=\"#{}\">{}</a></li>",
                escape(&one.id),
                escape(&one.text)
            )
        })
        .collect();
    format!(
        "<nav class=\"outline\" aria-label=\"On this page\"><p>On this page</p><ul>{lines}</ul></nav>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENTS: &str = "# Book\n\n- [One](one.md)\n- [Gone](gone.md)\n- Decisions\n  - [Two & a half](decisions/2.md)\n- Measured\n  - [Gone](measured/gone.md)\n- [Three](three.md)\n";

    fn known() -> Vec<Entry> {
        entries(CONTENTS, |path| !path.contains("gone"))
    }

    #[test]
    fn contents_name_pages_there_are_and_mark_the_current_one() {
        let list = contents(&known(), "/docs/decisions-2");
        assert!(list.contains(
            "<li class=\"nested\"><a href=\"/docs/decisions-2\" aria-current=\"page\">Two &amp; a half</a>"
        ), "{list}");
        assert!(list.contains("<span>Decisions</span>"), "{list}");
        assert!(
            !list.contains("Gone") && !list.contains("Measured"),
            "{list}"
        );
    }

    #[test]
    fn a_page_leads_to_the_ones_beside_it() {
        let links = neighbours(&known(), "/docs/decisions-2");
        assert!(links.contains("rel=\"prev\" href=\"/docs/one\""), "{links}");
        assert!(
            links.contains("rel=\"next\" href=\"/docs/three\""),
            "{links}"
        );
        assert!(!neighbours(&known(), "/docs/one").contains("prev"));
        assert_eq!(neighbours(&known(), "/docs/elsewhere"), "");
    }

    #[test]
    fn a_page_has_nothing_that_the_content_security_policy_forbids() {
        let page = framed("A <b>", &known(), "/docs/one", "", &[]);
        assert!(
            page.contains("<title>A &lt;b&gt; · Serin</title>"),
            "{page}"
        );
        assert!(
            !page.contains("style=\"") && !page.contains("<style"),
            "{page}"
        );
        assert!(
            page.contains("<script src=\"/docs/theme.js\"></script>"),
            "{page}"
        );
        assert_eq!(page.matches("<script").count(), 1, "{page}");
    }
}
