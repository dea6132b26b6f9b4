//! A changed configuration, applied without dropping a client.

use super::{App, build};
use crate::config;
use crate::config::diff::Takes;
use crate::protocol::error::Report;
use crate::protocol::sqlstate::SqlState;

impl App {
    /// Reads the file again and applies what changed; a wrong file changes nothing.
    pub(super) fn reload(&mut self) -> Result<(), Report> {
        let faulty = |text: String| Report::error(SqlState::CONFIG_FILE_ERROR, text);
        let config = config::load(&self.path).map_err(|faults| faulty(faults.to_string()))?;
        let before = self.services.current.load_full();
        for change in config::diff(&before.config, &config) {
            match change.takes() {
                Takes::Effect => tracing::info!(%change, "configuration changed"),
                Takes::Restart => tracing::warn!(%change, "configuration changed; takes effect with the next start"),
            }
        }
        if let Some(level) = &self.level
            && before.config.log.level != config.log.level
            && let Err(error) = level.set(&config.log.level)
        {
            return Err(faulty(format!("log.level: {error}")));
        }
        let built = build::current(config, Some(&before), &mut self.tasks);
        let (current, begun) = built.map_err(|error| faulty(error.to_string()))?;
        begun.spawn(&self.services, &mut self.tasks);
        self.services.workers.fix(current.config.workers);
        self.services.current.store(std::sync::Arc::new(current));
        // Those who lie idle follow when they next have something to say; those whose user is gone go now.
        super::poke(&self.services.directory);
        tracing::info!("configuration reloaded");
        Ok(())
    }
}
