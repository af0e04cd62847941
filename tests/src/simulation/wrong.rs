//! Known wrong designs, each put in the place of ours by a switch: the simulation must find every one.
//!
//! None of them is in the functions' code. What the functions ask of AWS, or what the world makes of their answers, is
//! changed into what the wrong design would have asked or answered.

/// A wrong design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The event is put, then its doorbell sent, and a duplicate is answered without another look. Nobody audits.
    DuplicatesDropped,
    /// When the doorbell cannot be sent, the event is deleted again.
    DeletedWhenNotRung,
    /// A doorbell whose delivery somebody else holds is acknowledged.
    HeldLeaseAcknowledged,
    /// A delivery is finished whoever owns it.
    FinishUnconditional,
    /// An expired event counts as there until TTL removes it.
    TtlTrusted,
    /// The auditor's watermark is stored before its doorbells are rung.
    WatermarkFirst,
    /// A redrive's doorbell counts as a duplicate of the first.
    RedriveDropped,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::DuplicatesDropped,
        Self::DeletedWhenNotRung,
        Self::HeldLeaseAcknowledged,
        Self::FinishUnconditional,
        Self::TtlTrusted,
        Self::WatermarkFirst,
        Self::RedriveDropped,
    ];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DuplicatesDropped => "duplicates-dropped",
            Self::DeletedWhenNotRung => "deleted-when-not-rung",
            Self::HeldLeaseAcknowledged => "held-lease-acknowledged",
            Self::FinishUnconditional => "finish-unconditional",
            Self::TtlTrusted => "ttl-trusted",
            Self::WatermarkFirst => "watermark-first",
            Self::RedriveDropped => "redrive-dropped",
        }
    }
}
