/// One kind of work a worker does, for one model. `model` is empty where a stage needs none (muxing).
package struct Capability: Sendable, Hashable {
    /// `text-encoder`, `denoiser`, `vae-decoder`, `video-muxer`, `prompt-upsampler`.
    package var stage: String
    /// Model digest in hexadecimal, or empty.
    package var model: String

    package init(stage: String, model: String) {
        self.stage = stage
        self.model = model
    }
}

/// Worker → broker: who I am and what I can do. Sent on every (re)connect.
package struct Hello: Sendable, Hashable {
    /// Stable name of the worker (host, stage, number), for people; the session is the identity.
    package var worker: String
    package var capabilities: [Capability]
    package var slots: UInt32
    package var dataLocations: [Location]
    package var minimumMinor: UInt32
    package var maximumMinor: UInt32
    /// Identifies the arithmetic (`Backend.numerics`); checkpoints resume bit-exactly only on an equal one.
    package var numerics: String
    package var processID: UInt32
    /// Process that had this name before and is gone for certain, with how it ended (`signal 9`); 0 = not known.
    package var predecessorProcessID: UInt32
    package var predecessorEnd: String

    package init(
        worker: String, capabilities: [Capability], slots: UInt32, dataLocations: [Location],
        minimumMinor: UInt32 = 0, maximumMinor: UInt32 = 0, numerics: String, processID: UInt32,
        predecessorProcessID: UInt32 = 0, predecessorEnd: String = ""
    ) {
        self.worker = worker
        self.capabilities = capabilities
        self.slots = slots
        self.dataLocations = dataLocations
        self.minimumMinor = minimumMinor
        self.maximumMinor = maximumMinor
        self.numerics = numerics
        self.processID = processID
        self.predecessorProcessID = predecessorProcessID
        self.predecessorEnd = predecessorEnd
    }
}

/// Broker → worker or client: you are known; these are the intervals and where the durable store is.
package struct Welcome: Sendable, Hashable {
    package var beatMilliseconds: UInt32
    package var leaseMilliseconds: UInt32
    package var storeLocations: [Location]
    /// The broker's name among several; empty from one of before there were cells.
    package var cell: String

    package init(
        beatMilliseconds: UInt32, leaseMilliseconds: UInt32, storeLocations: [Location], cell: String = ""
    ) {
        self.beatMilliseconds = beatMilliseconds
        self.leaseMilliseconds = leaseMilliseconds
        self.storeLocations = storeLocations
        self.cell = cell
    }
}

/// One leased task as its worker sees it now.
package struct RunningTask: Sendable, Hashable {
    package var task: TaskID
    package var fence: UInt64
    /// Units of the stage's own work done and in all (denoising steps, chunks, frames); total 0 = not known yet.
    package var step: UInt32
    package var totalSteps: UInt32
    package var millisecondsSinceProgress: UInt32

    package init(task: TaskID, fence: UInt64, step: UInt32, totalSteps: UInt32, millisecondsSinceProgress: UInt32) {
        self.task = task
        self.fence = fence
        self.step = step
        self.totalSteps = totalSteps
        self.millisecondsSinceProgress = millisecondsSinceProgress
    }
}

/// What a worker has fetched since it started, and over which way.
package struct FetchCounters: Sendable, Hashable {
    /// Blobs that came through shared memory, and their bytes.
    package var memoryBlobs: UInt64
    package var memoryBytes: UInt64
    /// Blobs that came over a socket, and their bytes.
    package var socketBlobs: UInt64
    package var socketBytes: UInt64
    /// Those of the latter that shared memory was tried for.
    package var fallbacks: UInt64

    package init(
        memoryBlobs: UInt64 = 0, memoryBytes: UInt64 = 0, socketBlobs: UInt64 = 0, socketBytes: UInt64 = 0,
        fallbacks: UInt64 = 0
    ) {
        self.memoryBlobs = memoryBlobs
        self.memoryBytes = memoryBytes
        self.socketBlobs = socketBlobs
        self.socketBytes = socketBytes
        self.fallbacks = fallbacks
    }
}

/// Worker → broker: absolute state, newest `Envelope.sequence` wins. Lost, doubled or reordered beats heal at the
/// next.
package struct Beat: Sendable, Hashable {
    package var freeSlots: UInt32
    package var running: [RunningTask]
    package var storeBytes: UInt64
    package var fetched: FetchCounters
    /// Affinities of the tasks that it could begin without loading or changing weights.
    package var warm: [String]
    /// Previews made since the worker's start.
    package var previews: UInt64
    /// Fence of the newest ASSIST that asked for a slot and has arrived: `freeSlots` knows of it.
    package var assistedFence: UInt64

    package init(
        freeSlots: UInt32, running: [RunningTask], storeBytes: UInt64, fetched: FetchCounters = FetchCounters(),
        warm: [String] = [], previews: UInt64 = 0, assistedFence: UInt64 = 0
    ) {
        self.assistedFence = assistedFence
        self.previews = previews
        self.freeSlots = freeSlots
        self.running = running
        self.storeBytes = storeBytes
        self.fetched = fetched
        self.warm = warm
    }
}

/// Broker → worker: the beat with this sequence arrived.
package struct BeatAcknowledgement: Sendable, Hashable {
    package var sequence: UInt64
    package var drain: Bool
    /// Blobs that no unfinished task needs any more.
    package var releases: [Digest]
    /// Those of the worker's leases whose previews somebody looks at now.
    package var watched: [Lease]

    package init(sequence: UInt64, drain: Bool, releases: [Digest], watched: [Lease] = []) {
        self.watched = watched
        self.sequence = sequence
        self.drain = drain
        self.releases = releases
    }
}

/// Either way: the message could not be handled; `inReplyTo` of the envelope says which.
package struct ErrorReply: Sendable, Hashable {
    package var code: String
    package var message: String
    package var retryAfterMilliseconds: UInt32

    package init(code: String, message: String, retryAfterMilliseconds: UInt32 = 0) {
        self.code = code
        self.message = message
        self.retryAfterMilliseconds = retryAfterMilliseconds
    }
}
