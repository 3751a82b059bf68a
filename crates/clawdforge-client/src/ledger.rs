//! Which lines of the ledger a page is asked for.

use reqwest::Url;

/// What to read of the ledger; the default is its newest lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerQuery {
    /// Only lines of this app.
    pub app: Option<String>,
    /// Only lines of this kind, such as `run_ended`.
    pub kind: Option<String>,
    /// From which end; none leaves it to the service (newest first).
    pub order: Option<LedgerOrder>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<u64>,
    /// Lines a page has at most; none leaves it to the service.
    pub limit: Option<usize>,
}

/// From which end the ledger is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerOrder {
    /// The latest line first.
    Newest,
    /// The first line first.
    Oldest,
}

impl LedgerQuery {
    pub(crate) fn write_into(&self, url: &mut Url) {
        let order = self.order.map(|order| match order {
            LedgerOrder::Newest => "newest".to_owned(),
            LedgerOrder::Oldest => "oldest".to_owned(),
        });
        let pairs = [
            ("app", self.app.clone()),
            ("kind", self.kind.clone()),
            ("order", order),
            ("cursor", self.cursor.map(|cursor| cursor.to_string())),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        for (key, value) in pairs {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, &value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(query: &LedgerQuery) -> String {
        let mut url = Url::parse("http://forge/admin/ledger").unwrap();
        query.write_into(&mut url);
        url.to_string()
    }

    #[test]
    fn only_what_is_asked_for_is_written() {
        assert_eq!(written(&LedgerQuery::default()), "http://forge/admin/ledger");
        let query = LedgerQuery {
            app: Some("a&b".to_owned()),
            order: Some(LedgerOrder::Oldest),
            cursor: Some(7),
            ..LedgerQuery::default()
        };
        assert_eq!(written(&query), "http://forge/admin/ledger?app=a%26b&order=oldest&cursor=7");
    }
}
