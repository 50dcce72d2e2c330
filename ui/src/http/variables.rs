//! What a reader of a dashboard can choose, and has chosen: `var.NAME=VALUE` in the address.

use axum::Json;
use axum::extract::{Path, Query, State};
use serin_dashboards::Chosen;
use serin_dashboards::variable::{CHOSEN_MAX, values};

use super::App;
use super::dashboards::{find, range_of};
use super::dto::VariableBody;
use super::error::ApiError;
use super::range::Times;

/// What stands before a variable's name in an address.
const PREFIX: &str = "var.";
/// Longest value, in bytes: a long path, not a document.
const VALUE_BYTES_MAX: usize = 1_024;

/// All parameters of a request, in their order.
pub(crate) type Parameters = Vec<(String, String)>;

/// The values chosen in a request.
pub(crate) fn chosen(parameters: &Parameters) -> Result<Chosen, ApiError> {
    let mut chosen = Chosen::new();
    let named = parameters
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value)));
    for (count, (name, value)) in named.enumerate() {
        if count >= CHOSEN_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(ApiError::bad(format!(
                "more than {CHOSEN_MAX} values are chosen, or one of {name:?} has more than {VALUE_BYTES_MAX} bytes; choose fewer"
            )));
        }
        chosen
            .entry(name.to_owned())
            .or_default()
            .push(value.clone());
    }
    Ok(chosen)
}

/// `GET /api/v1/dashboards/{name}/variables`: the variables with the values there are.
pub(crate) async fn get(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(times): Query<Times>,
) -> Result<Json<Vec<VariableBody>>, ApiError> {
    let library = app.library();
    let dashboard = find(&library, &name)?;
    let range = range_of(&app, &library, dashboard, &times)?;
    let snapshot = app.lake.snapshot();
    let mut bodies = Vec::new();
    for variable in &dashboard.variables {
        let offered = values(&app.engine, &snapshot, variable, range).await?;
        bodies.push(VariableBody {
            values: Some(offered),
            ..VariableBody::of(variable)
        });
    }
    Ok(Json(bodies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_told_by_their_names() {
        let parameters = [
            ("from", "now-1h"),
            ("var.service", "cart"),
            ("var.service", "web"),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = chosen(&parameters.to_vec()).expect("few and short");
        assert_eq!(found.len(), 1);
        assert_eq!(found["service"], ["cart", "web"]);
        let long = vec![(String::from("var.x"), "x".repeat(VALUE_BYTES_MAX + 1))];
        assert!(chosen(&long).is_err());
    }
}
