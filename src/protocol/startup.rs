//! Stand-in.
use super::error::Report;
/// Message.
#[derive(Debug)]
pub struct StartupMessage(pub Vec<(String, String)>);
impl StartupMessage {
    /// Get.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }
    /// All.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }
}
/// Options.
pub fn options(text: &str) -> Result<Vec<(String, String)>, Report> {
    Ok(text.split_whitespace().filter_map(|w| w.trim_start_matches("-c").trim_start_matches("--").split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect())
}
