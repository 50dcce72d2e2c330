//! Finds what unquoted names mean, whatever their case: `userId`, `USERID` and `userid` are one.
//!
//! The parser would fold unquoted names to lower case, and a column `userId` would then be out of
//! reach. Here an unquoted name takes the spelling of the table, column or alias that it means; one
//! that means none of them is folded as usual. Quoted names stay as they are. Names with dots may
//! stand without quotes: `http.request` is the table. Start at [`resolve`].

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Statement, TableAlias, TableFactor, VisitMut, VisitorMut,
};
use serin_lake::Snapshot;

/// Gives all unquoted names of a statement their right spelling; `read` are the tables it reads.
pub(crate) fn resolve(statement: &mut Statement, snapshot: &Snapshot, read: &BTreeSet<String>) {
    let mut names = Names::default();
    for (name, view) in &snapshot.tables {
        names.tables.push(name.clone());
        if read.iter().any(|read| read.eq_ignore_ascii_case(name)) {
            names.add(name);
            view.columns
                .iter()
                .for_each(|column| names.add(&column.name));
        }
    }
    let ControlFlow::Continue(()) = statement.visit(&mut Aliases(&mut names));
    let ControlFlow::Continue(()) = statement.visit(&mut Uses(&names));
}

/// The spellings there are.
#[derive(Default)]
struct Names {
    tables: Vec<String>,
    /// Spellings by their lower case; the first is taken when none fits to the letter.
    spelled: HashMap<String, Vec<String>>,
}

impl Names {
    fn add(&mut self, name: &str) {
        let spellings = self.spelled.entry(name.to_lowercase()).or_default();
        if !spellings.iter().any(|known| known == name) {
            spellings.push(name.to_owned());
        }
    }

    fn spell(&self, ident: &mut Ident) {
        if ident.quote_style.is_some() {
            return;
        }
        let folded = ident.value.to_lowercase();
        ident.value = match self.spelled.get(&folded) {
            None => folded,
            Some(spellings) if spellings.contains(&ident.value) => return,
            Some(spellings) => spellings.first().cloned().unwrap_or(folded),
        };
    }

    /// Joins the first parts where they are a table's name with dots, then spells each part.
    fn spell_parts(&self, parts: &mut Vec<Ident>, shortest_rest: usize) {
        for joined in 2..=parts.len().saturating_sub(shortest_rest) {
            let text: Vec<&str> = parts[..joined].iter().map(|p| p.value.as_str()).collect();
            let text = text.join(".");
            let table = self
                .tables
                .iter()
                .find(|name| name.eq_ignore_ascii_case(&text));
            if let Some(table) = table {
                parts.splice(..joined, [Ident::with_quote('"', table)]);
                break;
            }
        }
        parts.iter_mut().for_each(|part| self.spell(part));
    }

    fn spell_object(&self, name: &mut ObjectName) {
        let parts = name.0.iter().map(|part| part.as_ident().cloned());
        if let Some(mut parts) = parts.collect::<Option<Vec<Ident>>>() {
            self.spell_parts(&mut parts, 0);
            name.0 = parts.into_iter().map(ObjectNamePart::Identifier).collect();
        }
    }
}

/// Collects the names that the statement itself gives; they keep the case they are written in.
struct Aliases<'a>(&'a mut Names);

impl Aliases<'_> {
    fn add(&mut self, alias: &TableAlias) {
        self.0.add(&alias.name.value);
        for column in &alias.columns {
            self.0.add(&column.name.value);
        }
    }
}

impl VisitorMut for Aliases<'_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.add(&cte.alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.0.add(&alias.value);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        if let TableFactor::Table {
            alias: Some(alias), ..
        }
        | TableFactor::Derived {
            alias: Some(alias), ..
        }
        | TableFactor::NestedJoin {
            alias: Some(alias), ..
        } = factor
        {
            self.add(alias);
        }
        ControlFlow::Continue(())
    }
}

/// Spells the names where they are used.
struct Uses<'a>(&'a Names);

impl VisitorMut for Uses<'_> {
    type Break = Infallible;

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Infallible> {
        self.0.spell_object(relation);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                _,
            ) = item
            {
                self.0.spell_object(name);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        match expr {
            Expr::Identifier(name) => self.0.spell(name),
            Expr::CompoundIdentifier(parts) => self.0.spell_parts(parts, 1),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
