//! The book at `/docs`: Markdown out of the binary, rendered with raw HTML turned into text.
//!
//! `docs/SUMMARY.md` is the table of contents at the side. A page is found by its name alone, so
//! that no path of a reader reaches a file.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, html};
use rust_embed::Embed;

use super::error::ApiError;

#[derive(Embed)]
#[folder = "../docs/"]
struct Book;

const STYLE: &str = include_str!("docs.css");
const SUMMARY: &str = "SUMMARY.md";

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
    if page == "style.css" {
        let kind = (header::CONTENT_TYPE, "text/css; charset=utf-8");
        return ([kind], STYLE).into_response();
    }
    let name = page.strip_suffix(".html").unwrap_or(&page);
    let found = Book::iter().find(|path| path.ends_with(".md") && slug(path) == name);
    match found {
        Some(path) => rendered(&path),
        None => ApiError::not_found(format!("the book has no page {name:?}")).into_response(),
    }
}

/// `decisions/001-x.md` → `decisions-001-x`.
fn slug(path: &str) -> String {
    path.trim_start_matches("./")
        .trim_end_matches(".md")
        .replace('/', "-")
}

fn rendered(path: &str) -> Response {
    let text = |path: &str| {
        Book::get(path)
            .map(|file| String::from_utf8_lossy(&file.data).into_owned())
            .unwrap_or_default()
    };
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let markdown = text(path);
    let title = markdown
        .lines()
        .find_map(|line| line.strip_prefix("# "))
        .unwrap_or("Serin");
    let mut escaped_title = String::new();
    html::push_html(&mut escaped_title, [Event::Text(title.into())].into_iter());
    let side = to_html(&text(SUMMARY), "");
    let body = to_html(&markdown, folder);
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{escaped_title} · Serin</title><link rel=\"stylesheet\" href=\"/docs/style.css\"></head>\n\
         <body><nav><a href=\"/\">Serin</a>{side}</nav><main>{body}</main></body></html>\n"
    );
    let mut response = page.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    response
}

/// Raw HTML becomes text; links to other pages of the book lead to where they are served.
fn to_html(markdown: &str, folder: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let events = Parser::new_ext(markdown, options).map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }) => Event::Start(Tag::Link {
            link_type,
            dest_url: served_at(link_type, dest_url, folder),
            title,
            id,
        }),
        other => other,
    });
    let mut out = String::new();
    html::push_html(&mut out, events);
    out
}

fn served_at<'a>(link_type: LinkType, url: CowStr<'a>, folder: &str) -> CowStr<'a> {
    if link_type == LinkType::Email || url.contains("://") {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        return if is_web { url } else { CowStr::from("#") };
    }
    let (page, anchor) = match url.split_once('#') {
        Some((page, anchor)) => (page, format!("#{anchor}")),
        None => (&*url, String::new()),
    };
    if !page.ends_with(".md") {
        // A script in a link is no link.
        return if page.contains(':') {
            CowStr::from("#")
        } else {
            url
        };
    }
    let from_folder = match page.strip_prefix("../") {
        Some(up) => up.to_owned(),
        None if folder.is_empty() => page.trim_start_matches("./").to_owned(),
        None => format!("{folder}/{}", page.trim_start_matches("./")),
    };
    CowStr::from(format!("/docs/{}{anchor}", slug(&from_folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_page_stays_text() {
        let page = to_html(
            "<script>alert(1)</script>\n\na <b>c</b> [x](javascript:alert(1))",
            "",
        );
        assert!(
            !page.contains("<script>") && !page.contains("<b>"),
            "{page}"
        );
        assert!(!page.contains("javascript:"), "{page}");
    }

    #[test]
    fn links_between_pages_lead_to_where_they_are_served() {
        let page = to_html("[a](./kpis.md#by) [b](decisions/001-x.md)", "");
        assert!(page.contains("href=\"/docs/kpis#by\""), "{page}");
        assert!(page.contains("href=\"/docs/decisions-001-x\""), "{page}");
        assert!(to_html("[a](../kpis.md)", "decisions").contains("\"/docs/kpis\""));
        assert!(to_html("[a](002-y.md)", "decisions").contains("\"/docs/decisions-002-y\""));
    }
}
