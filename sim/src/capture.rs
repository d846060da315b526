//! temporary
use std::sync::Arc;
#[derive(Debug)]
pub struct Secrets;
impl rustls::KeyLog for Secrets { fn log(&self, _: &str, _: &[u8], _: &[u8]) {} }
pub struct Opener;
impl Opener { pub fn new(_: Arc<Secrets>) -> Self { Self } }
pub fn data_frames(_: &[u8], _: &mut Opener) -> usize { 1 }
