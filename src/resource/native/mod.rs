//! The types this binary brings, one a file.
