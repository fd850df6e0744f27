//! pass
use super::Shared;
use crate::base::shutdown::Shutdown;
use std::sync::Arc;
/// x
pub async fn run(_s: Arc<Shared>, _d: Shutdown) {}
