/// Every bound of the protocol in one place (bus.md §2.1). Exceeding one is a protocol error, never an allocation.
package enum Limits {
    package static let controlFrameBytes = 64 * 1024
    package static let arenaBytes = 1024 * 1024
    package static let chunkBytes = 1024 * 1024
    package static let inlinePayloadBytes = 32 * 1024
    package static let tensorRank = 8
    package static let locations = 8
    package static let namedRefs = 16
    package static let tasksPerJob = 64
    package static let inputsPerTask = 16
    /// Earlier tasks whose arithmetic an assignment names.
    package static let originsPerTask = 16
    /// A preview's picture: it travels inside a control frame.
    package static let previewBytes = 40 * 1024
    package static let runningTasksPerWorker = 64
    package static let capabilitiesPerWorker = 16
    /// Affinities that a worker names in its beats.
    package static let warmPerWorker = 16
    package static let nameBytes = 128
    /// Name of a cell.
    package static let cellBytes = 32
    /// Cells that one worker or gateway serves.
    package static let cells = 8
    package static let parameterBytes = 16 * 1024
    package static let specificationBytes = 16 * 1024
    package static let messageBytes = 2 * 1024
    package static let notes = 16
    package static let jobsPerPage = 16
    package static let releasesPerBeat = 64
    package static let workersPerCluster = 256
    /// Counters of a broker.
    package static let counts = 64
    /// How leases of one task ended badly, newest last.
    package static let incidents = 16
    /// Parts of an incident: its message, and the end of a process.
    package static let incidentBytes = 512
    package static let unknownFields = 16
    /// Keys that one broker admits.
    package static let admittedKeys = 1024
    /// Bytes a sender may have outstanding before it waits for credit.
    package static let defaultWindowBytes = 8 * 1024 * 1024
    /// The latest deadline of a job: 30 days.
    package static let deadlineMilliseconds: UInt64 = 30 * 24 * 3_600_000
    /// A message between the workers on one task: a third of a chunk of 17 frames of 1360×768 in float32 and room to spare.
    package static let assistanceBytes: UInt64 = 1 << 30
    /// Tasks of other workers that one worker follows at a time.
    package static let followedPerWorker = 8
    /// Workers that share one task.
    package static let membersPerTask = 16
    /// The largest tensor a peer may announce: 161 frames of 1360×768 RGB float32 and room to spare.
    package static let tensorBytes = 8 * 1024 * 1024 * 1024
}
