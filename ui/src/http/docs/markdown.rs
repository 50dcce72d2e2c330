//! Markdown to HTML for the book: raw HTML becomes text, links lead to where pages are served.
//!
//! Headings and codes of errors get names that links can point at, tables a frame that scrolls on
//! narrow screens. Start at [`to_page`].

use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd, html};
use pulldown_cmark_escape::escape_html;

/// A page of the book.
pub(super) struct Page {
    /// The first heading of the first level.
    pub(super) title: Option<String>,
    pub(super) html: String,
    pub(super) headings: Vec<Heading>,
}

/// A heading that a link can point at.
pub(super) struct Heading {
    pub(super) level: u8,
    pub(super) id: String,
    pub(super) text: String,
}

/// Renders one page that lies in `folder` of the book.
pub(super) fn to_page(markdown: &str, folder: &str) -> Page {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut events: Vec<Event> = Vec::new();
    for event in Parser::new_ext(markdown, options) {
        match event {
            Event::Html(text) | Event::InlineHtml(text) => events.push(Event::Text(text)),
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }) => events.push(Event::Start(Tag::Link {
                link_type,
                dest_url: link(link_type, &dest_url, folder).into(),
                title,
                id,
            })),
            Event::Start(Tag::Table(columns)) => {
                events.push(Event::Html(CowStr::from("<div class=\"table-frame\">")));
                events.push(Event::Start(Tag::Table(columns)));
            }
            Event::End(TagEnd::Table) => {
                events.push(Event::End(TagEnd::Table));
                events.push(Event::Html(CowStr::from("</div>")));
            }
            Event::Text(text) if is_error_code(&text) => {
                let anchor = format!("<span id=\"{0}\">{0}</span>", &*text);
                events.push(Event::InlineHtml(CowStr::from(anchor)));
            }
            other => events.push(other),
        }
    }
    let headings = name_headings(&mut events);
    let title = headings.iter().find(|heading| heading.level == 1);
    let mut html = String::new();
    html::push_html(&mut html, events.into_iter());
    Page {
        title: title.map(|heading| heading.text.clone()),
        html,
        headings,
    }
}

/// Text as it stands between tags and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_html(&mut out, text).expect("writing to a String never fails");
    out
}

/// The code of an error, which pages link to.
fn is_error_code(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
    text.starts_with("SER-") && text.bytes().all(is_fine)
}

/// `decisions/001-x.md` → `decisions-001-x`.
pub(super) fn slug(path: &str) -> String {
    path.trim_start_matches("./")
        .trim_end_matches(".md")
        .replace('/', "-")
}

/// Where a link leads that is written in a page in `folder`.
pub(super) fn served_at(url: &str, folder: &str) -> String {
    let (page, anchor) = match url.split_once('#') {
        Some((page, anchor)) => (page, format!("#{anchor}")),
        None => (url, String::new()),
    };
    if !page.ends_with(".md") {
        // A script in a link is no link.
        return if page.contains(':') { "#" } else { url }.to_owned();
    }
    let from_folder = match page.strip_prefix("../") {
        Some(up) => up.to_owned(),
        None if folder.is_empty() => page.trim_start_matches("./").to_owned(),
        None => format!("{folder}/{}", page.trim_start_matches("./")),
    };
    format!("/docs/{}{anchor}", slug(&from_folder))
}

fn link(link_type: LinkType, url: &str, folder: &str) -> String {
    if link_type == LinkType::Email || url.contains("://") {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        return if is_web { url } else { "#" }.to_owned();
    }
    served_at(url, folder)
}

/// Gives each heading a name made of its words, and a number where a name comes again.
fn name_headings(events: &mut [Event]) -> Vec<Heading> {
    let mut headings: Vec<Heading> = Vec::new();
    let mut start = None;
    let mut text = String::new();
    for at in 0..events.len() {
        match &events[at] {
            Event::Start(Tag::Heading { .. }) => {
                start = Some(at);
                text.clear();
            }
            Event::Text(part) | Event::Code(part) if start.is_some() => text.push_str(part),
            Event::End(TagEnd::Heading(level)) => {
                let level = *level as u8;
                let name = anchor(&text);
                let again = headings
                    .iter()
                    .filter(|one| anchor(&one.text) == name)
                    .count();
                let name = match again {
                    0 => name,
                    more => format!("{name}-{more}"),
                };
                if let Some(Event::Start(Tag::Heading { id, .. })) =
                    start.take().map(|at| &mut events[at])
                {
                    *id = Some(CowStr::from(name.clone()));
                }
                headings.push(Heading {
                    level,
                    id: name,
                    text: text.clone(),
                });
            }
            _ => {}
        }
    }
    headings
}

/// `What a worker may do` → `what-a-worker-may-do`, as other readers of Markdown name it.
fn anchor(text: &str) -> String {
    text.to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_alphanumeric().then_some(letter),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html_of(markdown: &str, folder: &str) -> String {
        to_page(markdown, folder).html
    }

    #[test]
    fn markup_in_a_page_stays_text() {
        let page = html_of(
            "<script>alert(1)</script>\n\na <b>c</b> [x](javascript:alert(1))",
            "",
        );
        assert!(
            !page.contains("<script>") && !page.contains("<b>"),
            "{page}"
        );
        assert!(!page.contains("javascript:"), "{page}");
        assert_eq!(escape("<a b='\"&'>"), "&lt;a b=&#39;&quot;&amp;&#39;&gt;");
    }

    #[test]
    fn links_between_pages_lead_to_where_they_are_served() {
        let page = html_of("[a](./kpis.md#by) [b](decisions/001-x.md)", "");
        assert!(page.contains("href=\"/docs/kpis#by\""), "{page}");
        assert!(page.contains("href=\"/docs/decisions-001-x\""), "{page}");
        assert!(html_of("[a](../kpis.md)", "decisions").contains("\"/docs/kpis\""));
        assert!(html_of("[a](002-y.md)", "decisions").contains("\"/docs/decisions-002-y\""));
    }

    #[test]
    fn codes_of_errors_can_be_pointed_at() {
        let page = html_of("| code |\n| --- |\n| SER-SQL-001 |\n| SER-<b> |\n", "");
        assert!(page.contains("id=\"SER-SQL-001\""), "{page}");
        assert!(!page.contains("id=\"SER-<"), "{page}");
    }

    #[test]
    fn headings_can_be_pointed_at() {
        let page = to_page("# Top\n\n## Limits of `a.b`\n\n## Limits of `ab`\n", "");
        assert_eq!(page.title.as_deref(), Some("Top"));
        assert!(
            page.html.contains("<h2 id=\"limits-of-ab\">"),
            "{}",
            page.html
        );
        assert!(
            page.html.contains("<h2 id=\"limits-of-ab-1\">"),
            "{}",
            page.html
        );
    }
}
