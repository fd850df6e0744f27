//! Pages of long lists, newest first, as Concourse's API counts them: by row id, both ends inclusive.

/// What the bounds of a page are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bounds {
    /// Ids of rows.
    #[default]
    Ids,
    /// Unix seconds at which builds have started; such a page has no neighbours.
    Starts,
}

/// Which page is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Rows from here on upwards. Versions look at nothing else then; of builds, with `to`, what is between them, oldest
    /// first.
    pub from: Option<i64>,
    /// Rows from here on downwards.
    pub to: Option<i64>,
    /// What the two are.
    pub bounds: Bounds,
    /// At most so many.
    pub limit: i64,
}

impl Default for PageRequest {
    fn default() -> Self {
        PageRequest { from: None, to: None, bounds: Bounds::Ids, limit: 100 }
    }
}

impl PageRequest {
    /// The newest so many.
    pub fn newest(limit: i64) -> Self {
        PageRequest { limit, ..Self::default() }
    }

    /// Whether it has two ends.
    pub(in crate::store) fn is_range(&self) -> bool {
        self.from.is_some() && self.to.is_some()
    }

    /// Whether rows are read upwards, to be turned round afterwards unless both ends are given.
    pub(in crate::store) fn upwards(&self) -> bool {
        self.from.is_some()
    }
}

/// A page, and where its neighbours start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// `from` of the page of newer rows, if there are any.
    pub newer: Option<i64>,
    /// `to` of the page of older rows, if there are any.
    pub older: Option<i64>,
}

impl<T> Page<T> {
    /// The same page of other things.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), newer: self.newer, older: self.older }
    }
}
