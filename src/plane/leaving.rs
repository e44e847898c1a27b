//! How an instance leaves: step by step, and never back.

use tokio::sync::watch;

/// How far an instance is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It serves.
    Serving,
    /// It serves everybody who comes, and with each answer asks them to come elsewhere next time.
    Leaving,
    /// Another process accepts in its place; it asks who is still there to come again.
    Relieved,
    /// It accepts nobody, closes what is idle, and lets what is under way end.
    Draining(Queue),
    /// What is still there is cut.
    Over,
}

/// Who serves those that have connected and were not accepted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// This instance: nobody else has its listening sockets, and closing them resets who waits there.
    Ours,
    /// Another process, which has the same sockets.
    Others,
}

/// Tells the workers of an instance how far it is.
#[derive(Debug, Clone)]
pub struct Stages(watch::Sender<Stage>);

impl Default for Stages {
    fn default() -> Self {
        Self(watch::Sender::new(Stage::Serving))
    }
}

impl Stages {
    /// Goes on to a stage, unless it has been passed already.
    pub fn advance(&self, to: Stage) {
        self.0.send_if_modified(|stage| {
            let forward = *stage < to;
            *stage = to.max(*stage);
            forward
        });
    }

    /// Hears of what is to come.
    #[must_use]
    pub fn follow(&self) -> Following {
        Following(self.0.subscribe())
    }
}

/// Hears how far an instance is.
#[derive(Debug, Clone)]
pub struct Following(watch::Receiver<Stage>);

impl Following {
    /// Waits until the instance is at this stage or past it, and says where it is. When nobody is left who could say so, it
    /// is over.
    pub async fn reached(&mut self, stage: Stage) -> Stage {
        self.0.wait_for(|now| *now >= stage).await.map_or(Stage::Over, |now| *now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_are_passed_in_one_direction() {
        let stages = Stages::default();
        let mut following = stages.follow();
        stages.advance(Stage::Draining(Queue::Others));
        stages.advance(Stage::Leaving);
        assert_eq!(following.reached(Stage::Leaving).await, Stage::Draining(Queue::Others));
        stages.advance(Stage::Over);
        assert_eq!(following.reached(Stage::Draining(Queue::Ours)).await, Stage::Over);
    }

    #[tokio::test]
    async fn it_is_over_when_nobody_is_left_who_says_so() {
        let mut following = Stages::default().follow();
        assert_eq!(following.reached(Stage::Leaving).await, Stage::Over);
    }
}
