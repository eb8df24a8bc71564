import Failure
import Tensor
import Wire

/// One envelope of every message, with every field set to a value of its own.
enum Samples {
    static func digest(_ seed: UInt8) -> Digest { Digest.of([seed]) }

    static let ref = TensorRef(
        digest: digest(1), dtype: .bfloat16, shape: [1, 226, 4096],
        locations: [
            .ipc(host: "a1b2c3", socket: "broker-data.sock"), .tcp(address: "10.0.0.7", port: 7711),
            .tcp(address: "fd00::7", port: 7711),
        ])
    static let scalar = TensorRef(digest: digest(2), dtype: .int64, shape: [], locations: [])
    static let lease = Lease(task: TaskID(job: "j-0001", name: "denoise"), fence: 7)
    static let capability = Capability(stage: "denoiser", model: String(repeating: "ab", count: 32))

    static let hello = Hello(
        worker: "host-1/denoiser-0", capabilities: [capability, Capability(stage: "video-muxer", model: "")], slots: 2,
        dataLocations: ref.locations, minimumMinor: 1, maximumMinor: 3, numerics: "x86-64-v4/openblas", processID: 4711,
        predecessorProcessID: 4242, predecessorEnd: "signal 9")
    static let beat = Beat(
        freeSlots: 1,
        running: [
            RunningTask(task: lease.task, fence: 7, step: 12, totalSteps: 50, millisecondsSinceProgress: 4000)
        ],
        storeBytes: 1 << 40,
        fetched: FetchCounters(memoryBlobs: 1, memoryBytes: 2 << 40, socketBlobs: 3, socketBytes: 4, fallbacks: 5),
        warm: ["float32", "bfloat16+ab"],
        previews: 6, assistedFence: 8)
    static let submit = Submit(
        idempotencyKey: "key-1", requestDigest: digest(3), tenant: "studio", priority: -5,
        specification: #"{"prompt":"一只猫 🐈"}"#,
        tasks: [
            TaskSpecification(
                name: "decode", stage: "vae-decoder", model: "m", parameters: "{}",
                inputs: [
                    TaskInput(name: "latents", source: .task(name: "denoise", output: "latents")),
                    TaskInput(name: "init", source: .blob(ref)),
                ], durableOutputs: true, affinity: "bfloat16+ab")
        ], deadlineMilliseconds: 90_000, replayOnly: true)
    static let status = JobStatus(
        job: "j-0001", state: .running, revision: 9, createdUnixMilliseconds: 1_790_000_000_000,
        finishedUnixMilliseconds: 1_790_000_060_000, priority: -1, queuePosition: 3, remainingMilliseconds: 90_000,
        specification: "{}",
        tasks: [
            TaskStatus(
                name: "denoise", stage: "denoiser", state: .leased, worker: "host-1", attempt: 2, step: 12,
                totalSteps: 50, elapsedMilliseconds: 60_000, remainingMilliseconds: 190_000, notes: ["prompt cut"])
        ],
        outputs: [NamedRef(name: "mux.video", ref: ref)], errorCode: "numeric_fault", errorMessage: "NaN in latents",
        deadlineUnixMilliseconds: 1_790_000_090_000, cell: "north")
    static let assign = Assign(
        lease: lease, attempt: 2, stage: "denoiser", model: "m", parameters: #"{"seed":1}"#,
        inputs: [NamedRef(name: "prompt_embeds", ref: ref)], durableOutputs: true, checkpoint: scalar,
        checkpointStep: 11, earlierCheckpoint: ref, earlierCheckpointStep: 9, leaseMilliseconds: 15_000,
        origins: [TaskOrigin(task: "encode", numerics: "cpu/avx2/2", isMixed: true, manner: "tiles")])
    static let deadJob = DeadJob(
        job: "j-0001", state: .dead, finishedUnixMilliseconds: 1_790_000_060_000, errorCode: "worker_lost",
        errorMessage: "task denoise lost its worker 3 times", task: "denoise", stage: "denoiser", attempts: 4,
        crashes: 3, failures: 1, checkpointStep: 17, retriedAs: "j-0009",
        incidents: [
            Incident(
                task: "denoise", kind: "expired", code: "worker_lost", message: "not heard for 15000 ms",
                worker: "host-1", numerics: "x86-64-v4/openblas", processEnd: "signal 11", step: 18, fence: 7,
                grantedUnixMilliseconds: 1_790_000_000_000, endedUnixMilliseconds: 1_790_000_020_000,
                isQuarantined: true)
        ], cell: "north", createdUnixMilliseconds: 1_789_999_000_000)
    static let chunk = Chunk(digest: digest(4), offset: 3 << 32, length: 1 << 20, crc: 0xdead_beef)

    static func key(_ seed: UInt8) -> PublicKey { PublicKey(bytes: digest(seed).bytes)! }
    static let ticketKey = TicketKey(bytes: digest(14).bytes)!
    static let ticketTerms = TicketTerms(direction: .put, digest: digest(15), consumer: key(3))

    static let messages: [Message] = [
        .hello(hello),
        .welcome(
            Welcome(beatMilliseconds: 1000, leaseMilliseconds: 15_000, storeLocations: ref.locations, cell: "north")),
        .needHello, .beat(beat),
        .beatAcknowledgement(
            BeatAcknowledgement(sequence: 5, drain: true, releases: [digest(5), digest(6)], watched: [lease])),
        .goodbye, .error(ErrorReply(code: "overloaded", message: "too many jobs", retryAfterMilliseconds: 250)),
        .submit(submit), .accepted(Accepted(job: "j-0001", replayed: true)),
        .query(Query(job: "", before: "j-0002", limit: 4, beforeUnixMilliseconds: 1_790_000_000_000)),
        .status(StatusPage(jobs: [status, status], hasMore: true)),
        .watch(Watch(job: "j-0001", revision: 9)), .event(status), .cancel(job: "j-0001"),
        .cancelOutcome(CancelOutcome(job: "j-0001", state: .cancelled)), .clusterQuery,
        .cluster(
            ClusterStatus(
                workers: [
                    .init(
                        worker: "w", capabilities: [capability], slots: 2, busy: 1, millisecondsSinceBeat: 300,
                        isDraining: true, fetched: beat.fetched, previews: 7, warm: ["bfloat16", "bfloat16+ab"])
                ], queuedJobs: 4, runningJobs: 1, isDraining: true, cell: "north", backlogMilliseconds: 90_000,
                counts: [.init(name: "refused_role", value: 3), .init(name: "descriptors_limit", value: 1 << 20)])),
        .clientHello, .previewWatch(job: "j-0001"),
        .preview(
            Preview(lease: lease, step: 12, totalSteps: 50, width: 96, height: 48, jpeg: [0xff, 0xd8, 0xff, 0xd9])),
        .assign(assign), .refuse(Refuse(lease: lease, code: "busy")),
        .checkpoint(CheckpointReport(lease: lease, step: 12, ref: ref)),
        .checkpointCommitted(lease: lease, step: 12),
        .complete(
            Complete(
                lease: lease, outputs: [NamedRef(name: "latents", ref: ref)], elapsedMilliseconds: 99,
                notes: ["a", "b"], manner: "decoders=3")),
        .committed(lease),
        .fail(
            Fail(
                lease: lease, code: "input_missing", message: "frames are gone", retry: .otherWorker,
                missingInputs: ["frames"])),
        .leaseLost(lease), .revoke(Revoke(lease: lease, reason: "preempted", yields: true)),
        .get(
            Get(
                digest: digest(7), offset: 1, length: 2, window: 3,
                ticket: ticketKey.issue(ticketTerms, fence: 7, expiresAtUnixMilliseconds: 1_790_000_060_000),
                memory: MemoryWish(proof: digest(16).bytes))), .chunk(chunk),
        .credit(Credit(digest: digest(8), bytes: 1 << 20)), .stop(digest(9)),
        .putOpen(PutOpen(digest: digest(10), size: 1 << 33)), .putChunk(chunk), .putDone(digest(11)),
        .stored(digest(12)), .notHere(digest(13)), .busy(retryAfterMilliseconds: 100),
        .memoryInvitation(
            MemoryInvitation(digest: digest(17), socket: "memory-0011.sock", token: digest(18).bytes)),
        .memorySlot(
            MemorySlot(digest: digest(19), slot: 5, generation: 1 << 33, offset: 8192, length: 1 << 26)),
        .drain(Drain(worker: "host-1/denoiser-0", stage: "denoiser", broker: true, resume: true)),
        .draining(Draining(workers: ["host-1/denoiser-0", "host-2"], broker: true)),
        .deadQuery(DeadQuery(job: "", before: "j-0002", limit: 4, beforeUnixMilliseconds: 1_790_000_000_000)),
        .deadPage(DeadPage(jobs: [deadJob], hasMore: true)),
        .deadRetry(DeadRetry(job: "j-0001", idempotencyKey: "key-2")),
        .keyRing(KeyRing(keys: [key(1), key(2)], ticketKey: ticketKey, unixMilliseconds: 1_790_000_000_000)),
        .ticketRequest(TicketRequest(terms: ticketTerms, holder: key(2), lease: lease)),
        .ticket(ticketKey.issue(ticketTerms, fence: 7, expiresAtUnixMilliseconds: 1_790_000_060_000)),
        .assistRequest(AssistRequest(lease: lease, count: 3, secret: digest(20).bytes, follows: true)),
        .assistOffered(AssistOffer(lease: lease, count: 2)),
        .assist(
            AssistOrder(
                lease: lease, stage: "vae-decoder", model: "m", leader: "vae-decoder@host-1:7",
                locations: ref.locations, secret: digest(21).bytes, follows: true, parameters: #"{"fps":8}"#)),
        .assistJoin(secret: digest(22).bytes),
        .assistPart(
            AssistPart(
                round: 2, from: 1, to: 3, kind: 4, tag: 77, offset: 1 << 20, total: 3 << 20, length: 1 << 20,
                crc: 0xdead_beef)),
        .assistEnd(AssistEnd(code: "memory_insufficient", message: "too little for a third")), .assistPulse,
    ]

    static func envelope(_ message: Message) -> Envelope {
        Envelope(
            session: SessionID(bytes: Array(0..<16)) ?? .random(), sequence: 42, brokerEpoch: 3, inReplyTo: 41,
            trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", message: message)
    }
}
