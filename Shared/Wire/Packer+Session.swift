import CProtobufC
import CWire
import Failure

extension Packer {
    func hello(_ hello: Hello) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Hello> {
        let result = try make(zoetrope__hello__init)
        result.pointee.worker = try text(hello.worker, "hello.worker")
        result.pointee.n_capabilities = hello.capabilities.count
        result.pointee.capabilities = try list(
            hello.capabilities, "hello.capabilities", limit: Limits.capabilitiesPerWorker, capability)
        result.pointee.slots = hello.slots
        result.pointee.n_data_locations = hello.dataLocations.count
        result.pointee.data_locations = try list(
            hello.dataLocations, "hello.data_locations", limit: Limits.locations, location)
        result.pointee.minimum_minor = hello.minimumMinor
        result.pointee.maximum_minor = hello.maximumMinor
        result.pointee.numerics = try text(hello.numerics, "hello.numerics", limit: Limits.messageBytes)
        result.pointee.process_id = hello.processID
        result.pointee.predecessor_process_id = hello.predecessorProcessID
        result.pointee.predecessor_end = try text(hello.predecessorEnd, "hello.predecessor_end")
        return result
    }

    func welcome(_ welcome: Welcome) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Welcome> {
        let result = try make(zoetrope__welcome__init)
        result.pointee.beat_milliseconds = welcome.beatMilliseconds
        result.pointee.lease_milliseconds = welcome.leaseMilliseconds
        result.pointee.n_store_locations = welcome.storeLocations.count
        result.pointee.store_locations = try list(
            welcome.storeLocations, "welcome.store_locations", limit: Limits.locations, location)
        result.pointee.cell = try text(welcome.cell, "welcome.cell", limit: Limits.cellBytes)
        return result
    }

    func runningTask(_ running: RunningTask) throws(Failure) -> UnsafeMutablePointer<Zoetrope__RunningTask> {
        let result = try make(zoetrope__running_task__init)
        result.pointee.task = try taskID(running.task)
        result.pointee.fence = running.fence
        result.pointee.step = running.step
        result.pointee.total_steps = running.totalSteps
        result.pointee.milliseconds_since_progress = running.millisecondsSinceProgress
        return result
    }

    func beat(_ beat: Beat) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Beat> {
        let result = try make(zoetrope__beat__init)
        result.pointee.free_slots = beat.freeSlots
        result.pointee.n_running = beat.running.count
        result.pointee.running = try list(
            beat.running, "beat.running", limit: Limits.runningTasksPerWorker, runningTask)
        result.pointee.store_bytes = beat.storeBytes
        result.pointee.fetched = try fetchCounters(beat.fetched)
        result.pointee.n_warm = beat.warm.count
        result.pointee.warm = try array(beat.warm, "beat.warm", limit: Limits.warmPerWorker) { (name) throws(Failure) in
            try text(name, "beat.warm")
        }
        result.pointee.previews = beat.previews
        result.pointee.assisted_fence = beat.assistedFence
        return result
    }

    /// Nothing where nothing was fetched.
    func fetchCounters(
        _ counters: FetchCounters
    ) throws(Failure) -> UnsafeMutablePointer<Zoetrope__FetchCounters>? {
        guard counters != FetchCounters() else { return nil }
        let result = try make(zoetrope__fetch_counters__init)
        result.pointee.memory_blobs = counters.memoryBlobs
        result.pointee.memory_bytes = counters.memoryBytes
        result.pointee.socket_blobs = counters.socketBlobs
        result.pointee.socket_bytes = counters.socketBytes
        result.pointee.fallbacks = counters.fallbacks
        return result
    }

    func beatAcknowledgement(
        _ acknowledgement: BeatAcknowledgement
    ) throws(Failure) -> UnsafeMutablePointer<Zoetrope__BeatAcknowledgement> {
        let result = try make(zoetrope__beat_acknowledgement__init)
        result.pointee.sequence = acknowledgement.sequence
        result.pointee.drain = acknowledgement.drain ? 1 : 0
        result.pointee.n_releases = acknowledgement.releases.count
        result.pointee.releases = try array(
            acknowledgement.releases, "beat_acknowledgement.releases", limit: Limits.releasesPerBeat, digest)
        result.pointee.n_watched = acknowledgement.watched.count
        result.pointee.watched = try list(
            acknowledgement.watched, "beat_acknowledgement.watched", limit: Limits.runningTasksPerWorker, lease)
        return result
    }

    func errorReply(_ error: ErrorReply) throws(Failure) -> UnsafeMutablePointer<Zoetrope__ErrorReply> {
        let result = try make(zoetrope__error_reply__init)
        result.pointee.code = try text(error.code, "error.code")
        result.pointee.message = try prose(error.message)
        result.pointee.retry_after_milliseconds = error.retryAfterMilliseconds
        return result
    }
}
