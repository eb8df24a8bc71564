import FoundationEssentials
package import Request
package import Wire

/// A job as OpenAI's Video object, with what this house knows beyond it in fields named `x_…`.
package struct VideoObject: Sendable, Encodable {
    package struct JobError: Sendable, Encodable {
        package var code: String
        package var message: String
    }

    /// One task of the job: which stage does it, how far it is and where.
    package struct Stage: Sendable, Encodable {
        package var task: String
        package var stage: String
        /// `blocked`, `ready`, `running`, `done`, `failed` or `cancelled`.
        package var state: String
        package var step: UInt32
        /// 0 = not known yet.
        package var total: UInt32
        package var attempt: UInt32
        package var elapsedMilliseconds: UInt64
        /// 0 = not known.
        package var remainingMilliseconds: UInt64
        package var worker: String
        package var notes: [String]

        enum CodingKeys: String, CodingKey {
            case task, stage, state, step, total, attempt, worker, notes
            case elapsedMilliseconds = "elapsed_ms"
            case remainingMilliseconds = "remaining_ms"
        }
    }

    package var id: String
    package let object = "video"
    package var model: String
    /// `queued`, `in_progress`, `completed` or `failed`; a cancelled job is failed with the error code `cancelled`.
    package var status: String
    package var progress: Int
    package var createdAt: Int
    package var completedAt: Int?
    /// Whole seconds of the clip, as text.
    package var seconds: String
    package var size: String
    package var prompt: String?
    package var error: JobError?
    package var seed: UInt64?
    /// The stage at work now, or the one that is waited for; absent when the job is over.
    package var stage: String?
    package var stages: [Stage]
    /// Estimated time to the end in milliseconds; absent when not known.
    package var remainingMilliseconds: UInt64?
    package var queuePosition: UInt32
    /// Unix seconds after which nobody wants the video; absent without a deadline.
    package var deadlineAt: Int?
    package var request: GenerationRequest?
    /// Names of what the job has stored so far (`denoise.latents`, `mux.video`), for `/tensors/{name}`.
    package var outputs: [String]
    /// A name for the file that follows from prompt and seed.
    package var fileName: String?
    /// The broker that has the job.
    package var cell: String?

    enum CodingKeys: String, CodingKey {
        case id, object, model, status, progress, seconds, size, prompt, error, seed
        case createdAt = "created_at"
        case completedAt = "completed_at"
        case stage = "x_stage"
        case stages = "x_stages"
        case remainingMilliseconds = "x_eta_ms"
        case queuePosition = "x_queue_position"
        case deadlineAt = "x_deadline_at"
        case request = "x_request"
        case outputs = "x_outputs"
        case fileName = "x_file_name"
        case cell = "x_cell"
    }

    package init(_ job: JobStatus) {
        let request = try? CanonicalJSON.decode(GenerationRequest.self, from: job.specification)
        id = job.job
        model = request?.model ?? ""
        status = Self.statusName(job.state)
        progress = Self.progress(job)
        createdAt = Int(job.createdUnixMilliseconds / 1000)
        completedAt = job.state.isTerminal ? Int(job.finishedUnixMilliseconds / 1000) : nil
        seconds = request.map { String(Int($0.duration)) } ?? "0"
        size = request.map { "\($0.width)x\($0.height)" } ?? ""
        prompt = request?.prompt
        seed = request?.seed
        error = Self.error(job)
        stages = job.tasks.map(Self.stage)
        stage = Self.currentStage(job)
        remainingMilliseconds =
            job.state.isTerminal || job.remainingMilliseconds == 0 ? nil : job.remainingMilliseconds
        queuePosition = job.queuePosition
        deadlineAt = job.deadlineUnixMilliseconds == 0 ? nil : Int(job.deadlineUnixMilliseconds / 1000)
        self.request = request
        outputs = job.outputs.map(\.name)
        fileName = request.map { VideoName.of(prompt: $0.prompt, seed: $0.seed, container: $0.container.rawValue) }
        cell = job.cell.isEmpty ? nil : job.cell
    }

    private static func statusName(_ state: JobState) -> String {
        switch state {
        case .accepted: "queued"
        case .running: "in_progress"
        case .done: "completed"
        case .failed, .cancelled, .dead: "failed"
        }
    }

    private static func error(_ job: JobStatus) -> JobError? {
        switch job.state {
        case .cancelled: JobError(code: "cancelled", message: "The job was cancelled.")
        case .failed, .dead:
            JobError(code: job.errorCode.isEmpty ? "job_failed" : job.errorCode, message: job.errorMessage)
        default: nil
        }
    }

    private static func currentStage(_ job: JobStatus) -> String? {
        guard !job.state.isTerminal else { return nil }
        let open = job.tasks.first { $0.state == .leased } ?? job.tasks.first { $0.state == .ready }
        return (open ?? job.tasks.first { $0.state == .blocked })?.stage
    }

    private static func stage(_ task: TaskStatus) -> Stage {
        let state =
            switch task.state {
            case .blocked: "blocked"
            case .ready: "ready"
            case .leased: "running"
            case .done: "done"
            case .dead: "failed"
            case .cancelled: "cancelled"
            }
        return Stage(
            task: task.name, stage: task.stage, state: state, step: task.step, total: task.totalSteps,
            attempt: task.attempt, elapsedMilliseconds: task.elapsedMilliseconds,
            remainingMilliseconds: task.remainingMilliseconds, worker: task.worker, notes: task.notes)
    }

    /// Percent of the job that is done, by shares of the work that CogVideoX typically spends in each stage: only steps
    /// that workers have reported count, and 100 means that the files are there.
    private static func progress(_ job: JobStatus) -> Int {
        guard job.state != .done else { return 100 }
        var whole = 0.0
        var done = 0.0
        // The tiles of a clip share their stage's part.
        let counts = Dictionary(job.tasks.map { ($0.stage, 1.0) }, uniquingKeysWith: +)
        for task in job.tasks {
            let share = (shares[task.stage] ?? 2) / (counts[task.stage] ?? 1)
            whole += share
            if task.state == .done {
                done += share
            } else if task.totalSteps > 0 {
                done += share * min(1, Double(task.step) / Double(task.totalSteps))
            }
        }
        return whole == 0 ? 0 : min(99, Int(100 * done / whole))
    }

    private static let shares: [String: Double] = [
        StageName.promptUpsampler.rawValue: 2, StageName.textEncoder.rawValue: 3, StageName.denoiser.rawValue: 75,
        StageName.vaeDecoder.rawValue: 18, StageName.videoMuxer.rawValue: 2,
    ]
}
