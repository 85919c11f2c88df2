//! One table for the rules of each operation.

mod attach;
mod create;
mod describe;
mod groups;
mod trunk;

/// Calls that are refused: each row with what it says, the query and its code.
fn refused(site: &mut crate::testing::Site, rows: &[(&str, String, &str)]) {
    for (what, query, code) in rows {
        assert_eq!(site.code(query), *code, "{what}: {query}");
    }
}
