//! Statements are told right from wrong over tables that have no rows.

use serin_query::QueryError;
use serin_query::examine::{admitted, examine};

use crate::fixture::Fixture;

#[test]
fn a_statement_is_held_against_tables_and_columns() {
    let fixture = Fixture::new();
    let said = |sql: &str| examine(sql, &fixture.snapshot).map_err(|error| error.to_string());
    for right in [
        "SELECT user, sum(amount) FROM \"order.paid\" WHERE $__range GROUP BY 1",
        "SELECT time_bucket($__interval, time) AS t, p95(amount) FROM order.paid GROUP BY 1",
        "SELECT type, count(*) FROM events GROUP BY 1",
    ] {
        assert_eq!(said(right), Ok(()), "{right}");
    }
    let column = said("SELECT usr FROM order.paid").unwrap_err();
    assert!(column.contains("usr"), "{column}");
    let table = said("SELECT 1 FROM order.payed").unwrap_err();
    assert_eq!(
        table,
        "no table \"order.payed\"; did you mean \"order.paid\"?"
    );
    let may_come = |sql: &str| match examine(sql, &fixture.snapshot) {
        Err(QueryError::NoTable { is_to_come, .. }) => is_to_come,
        other => panic!("{sql}: {other:?}"),
    };
    assert!(may_come("SELECT 1 FROM order.refunded"));
    assert!(may_come("SELECT 1 FROM \"cart.del\""));
    assert!(!may_come("SELECT 1 FROM order.payed"));
    assert!(!may_come("SELECT 1 FROM \"order paid\""));
    assert!(said("DROP TABLE x").is_err());
    assert!(admitted("DROP TABLE x").is_err());
    assert!(admitted("SELECT 1 FROM anything WHERE $__range").is_ok());
}
