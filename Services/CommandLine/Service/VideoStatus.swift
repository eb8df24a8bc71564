import FoundationEssentials

/// A video as the gateway tells it (`GET /v1/videos/{id}`, docs/api.md).
package struct VideoStatus: Sendable, Decodable {
    /// One stage of the job.
    package struct Stage: Sendable, Decodable {
        package var task: String
        package var stage: String
        /// blocked, ready, running, done, failed or cancelled.
        package var state: String
        package var worker: String
        package var attempt: Int
        package var step: Int
        package var totalSteps: Int
        package var elapsedMilliseconds: Int
        package var remainingMilliseconds: Int
        package var notes: [String]

        private enum CodingKeys: String, CodingKey {
            case task, stage, state, worker, attempt, step, notes
            case totalSteps = "total"
            case elapsedMilliseconds = "elapsed_ms"
            case remainingMilliseconds = "remaining_ms"
        }
    }

    package struct Problem: Sendable, Decodable {
        package var code: String
        package var message: String
    }

    package var id: String
    /// queued, in_progress, completed or failed.
    package var status: String
    package var progress: Int
    package var createdAt: Int
    package var completedAt: Int?
    package var error: Problem?
    package var prompt: String?
    package var seed: UInt64?
    package var size: String?
    /// mp4, webm, gif or mkv.
    package var container: String?
    /// What was decided for the user when the request was read.
    package var requestNotes: [String]
    package var stages: [Stage]
    package var remainingMilliseconds: Int?
    package var queuePosition: Int?
    /// Unix seconds.
    package var deadlineAt: Int?
    /// Names of the tensors and files the job has stored so far (`denoise.latents`, `mux.video`).
    package var outputs: [String]
    /// The broker that has the job.
    package var cell: String?

    private struct Request: Decodable {
        var container: String?
        var notes: [String]?
    }

    private enum CodingKeys: String, CodingKey {
        case id, status, progress, error, prompt, seed, size
        case request = "x_request"
        case createdAt = "created_at"
        case completedAt = "completed_at"
        case stages = "x_stages"
        case remainingMilliseconds = "x_eta_ms"
        case queuePosition = "x_queue_position"
        case deadlineAt = "x_deadline_at"
        case outputs = "x_outputs"
        case cell = "x_cell"
    }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        id = try values.decode(String.self, forKey: .id)
        status = try values.decode(String.self, forKey: .status)
        progress = try values.decodeIfPresent(Int.self, forKey: .progress) ?? 0
        createdAt = try values.decodeIfPresent(Int.self, forKey: .createdAt) ?? 0
        completedAt = try values.decodeIfPresent(Int.self, forKey: .completedAt)
        error = try values.decodeIfPresent(Problem.self, forKey: .error)
        prompt = try values.decodeIfPresent(String.self, forKey: .prompt)
        seed = try values.decodeIfPresent(UInt64.self, forKey: .seed)
        size = try values.decodeIfPresent(String.self, forKey: .size)
        let request = try values.decodeIfPresent(Request.self, forKey: .request)
        container = request?.container
        requestNotes = request?.notes ?? []
        stages = try values.decodeIfPresent([Stage].self, forKey: .stages) ?? []
        remainingMilliseconds = try values.decodeIfPresent(Int.self, forKey: .remainingMilliseconds)
        queuePosition = try values.decodeIfPresent(Int.self, forKey: .queuePosition)
        deadlineAt = try values.decodeIfPresent(Int.self, forKey: .deadlineAt)
        outputs = try values.decodeIfPresent([String].self, forKey: .outputs) ?? []
        cell = try values.decodeIfPresent(String.self, forKey: .cell)
    }

    package var isTerminal: Bool { status == "completed" || status == "failed" }

    /// Every note of the request and of every stage, in order.
    package var notes: [String] { requestNotes + stages.flatMap(\.notes) }
}

/// A page of `GET /v1/videos`.
package struct VideoList: Sendable, Decodable {
    package var data: [VideoStatus]
    package var hasMore: Bool
    /// Cells whose jobs are missing because their brokers do not answer.
    package var unreachableCells: [String]?

    private enum CodingKeys: String, CodingKey {
        case data
        case unreachableCells = "x_unreachable_cells"
        case hasMore = "has_more"
    }
}
