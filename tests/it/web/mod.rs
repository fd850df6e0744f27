//! The pages, as a browser gets them from a whole server over a database with everything in it.

mod gallery;
mod pages;
mod seed;
