//! Writes every page as a file, to be looked at: `GALLERY=DIR cargo test --test it gallery`, then serve DIR.

use super::pages::{Browser, addresses};
use super::seed;
use crate::world::World;

#[tokio::test]
async fn pages_as_files() {
    let Some(directory) = std::env::var_os("GALLERY").map(std::path::PathBuf::from) else { return };
    std::fs::create_dir_all(&directory).unwrap();
    let world = World::new().await;
    let empty = Browser::new(&world).await.page("/").await;
    std::fs::write(directory.join("welcome.html"), &empty).unwrap();
    let seeded = seed::fill(world.app()).await;
    let browser = Browser::new(&world).await;
    for (name, address) in addresses(&seeded) {
        std::fs::write(directory.join(format!("{name}.html")), browser.page(&address).await).unwrap();
    }
    let missing = browser.get("/nowhere").await.text().await.unwrap();
    std::fs::write(directory.join("missing.html"), missing).unwrap();
    for (name, path) in [("sign-in", "/sky/login"), ("public", "/")] {
        let page = world.anonymous().get(path).await.text().await.unwrap();
        std::fs::write(directory.join(format!("{name}.html")), page).unwrap();
    }
    let signed_in = browser.get("/fly_success?fly_port=65001").await.text().await.unwrap();
    std::fs::write(directory.join("fly-success.html"), signed_in).unwrap();
    // The mark that all addresses of files share.
    let mark = empty.split("/static/").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let files = directory.join("static").join(mark);
    std::fs::create_dir_all(&files).unwrap();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/static")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), files.join(entry.file_name())).unwrap();
    }
}
