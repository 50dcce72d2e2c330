//! The place of each service among the colours, the same on every page, in pictures and in every browser.
//!
//! No rule over names keeps ten apart among eight colours, so places are handed out in the order in
//! which services are first shown, and kept in a file for the next start.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serin_dashboards::{Data, PanelData};

use super::kept;

/// Names come from data: no more of them are kept than anybody looks at.
const SERVICES_MAX: usize = 200;
/// What begins nearly every trace has the first colour, whenever it is met.
const FIRST: &str = "gateway";
/// The dimension whose values are services.
const SERVICE: &str = "service";

/// The services that were met, in that order.
#[derive(Debug)]
pub(crate) struct Looks {
    met: Mutex<Vec<String>>,
    file: Option<PathBuf>,
}

impl Looks {
    /// Reads whom earlier runs met.
    pub(crate) fn load(file: Option<PathBuf>) -> Looks {
        let mut met: Vec<String> = kept::read(file.as_deref());
        if met.first().is_none_or(|first| first != FIRST) {
            met.insert(0, String::from(FIRST));
        }
        Looks {
            met: Mutex::new(met),
            file,
        }
    }

    /// The place of a service; `None` where there are too many already.
    pub(crate) fn of(&self, service: &str) -> Option<usize> {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = met.iter().position(|known| known == service) {
            return Some(place);
        }
        if met.len() >= SERVICES_MAX {
            return None;
        }
        met.push(service.to_owned());
        if let Some(path) = &self.file
            && let Err(error) = kept::write(path, &*met)
        {
            tracing::warn!(%error, path = %path.display(), "cannot keep the colours of services for the next start");
        }
        Some(met.len() - 1)
    }

    /// Gives the series of a panel that each stand for a service the places of these.
    pub(crate) fn dress(&self, panel: &mut PanelData) {
        let Some(Data::Series { series, .. }) = &mut panel.data else {
            return;
        };
        for one in series {
            let service = one.by.get(SERVICE).and_then(Option::as_deref);
            if let (Some(service), 1) = (service, one.by.len()) {
                one.look = self.of(service).unwrap_or(one.look);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_keeps_its_place_through_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Some(folder.path().join("looks.json"));
        let looks = Looks::load(file.clone());
        let places = ["cart", "gateway", "pay", "cart"].map(|service| looks.of(service));
        assert_eq!(places, [Some(1), Some(0), Some(2), Some(1)]);
        let looks = Looks::load(file);
        assert_eq!((looks.of("pay"), looks.of("mail")), (Some(2), Some(3)));
    }

    #[test]
    fn there_are_not_more_than_anybody_looks_at() {
        let looks = Looks::load(None);
        for n in 1..SERVICES_MAX {
            assert_eq!(looks.of(&format!("s{n}")), Some(n));
        }
        assert_eq!((looks.of("one-more"), looks.of("s7")), (None, Some(7)));
    }
}
