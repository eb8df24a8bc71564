package import ArgumentParser
import Bus
import Failure
import Foundation
import Request

/// Which gateway a command talks to.
package struct ServerOptions: ParsableArguments {
    @Option(help: "The gateway; also ZOETROPE_SERVER.")
    package var server = "http://127.0.0.1:8080"

    package init() {}
}

/// As `ServerOptions`, for commands of administrators.
package struct AdminOptions: ParsableArguments {
    @OptionGroup package var server: ServerOptions

    @Option(help: "File with the gateway's administrator token; also ZOETROPE_ADMIN_TOKEN_FILE.")
    package var adminTokenFile: String?

    package init() {}

    /// - Throws: `server_address_invalid`, and what reading the file says.
    func client() throws(Failure) -> GatewayClient {
        var token: AdminToken?
        if let adminTokenFile { token = try AdminToken(file: adminTokenFile) }
        return try GatewayClient(server: server.server, adminToken: token)
    }
}

/// `zoetrope submit`: hands a job to a running server and returns at once.
package struct SubmitCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "submit", abstract: "Hand a job to a running server and print its id.")

    @OptionGroup package var video: GenerationOptions
    @OptionGroup package var connection: ServerOptions

    @Option(help: "mp4, webm, gif or mkv.")
    package var container = "mp4"

    @Option(help: "Videos of the prompt, with seeds that follow one another; one id a line is printed. [default: 1]")
    package var numVideos: Int?

    @Option(help: "The same key and request never make a second job.")
    package var idempotencyKey: String?

    @Option(help: "From -100 to 100; higher goes first, and a running job makes room at its next step.")
    package var priority = 0

    @Option(help: "How long the video is wanted from now on, such as 90s, 10m or 1h30m; later the job fails.")
    package var deadline: TimeSpan?

    package init() {}

    package func validate() throws {
        guard video.prompt != nil || video.captionOf != nil else {
            throw ValidationError("Missing expected argument '<prompt>'")
        }
    }

    package func run() async throws {
        var fields = video.fields()
        fields["container"] = container
        fields["n"] = numVideos
        let client = try GatewayClient(server: connection.server)
        fields.merge(try await MediaFiles(video).upload(to: client)) { $1 }
        let body = try JSONSerialization.data(withJSONObject: fields)
        guard numVideos == nil else {
            let jobs = try await client.createSeveral(
                body, idempotencyKey: idempotencyKey, priority: priority, deadline: deadline)
            for job in jobs { Console.print(job.id) }
            return
        }
        Console.print(
            try await client.create(
                body, idempotencyKey: idempotencyKey, priority: priority, deadline: deadline
            ).id)
    }
}

/// `zoetrope status [ID]`: one job in detail, or the latest jobs.
package struct StatusCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show one job, the latest ones, or the workers.")

    @Argument(help: "Job id; without it the latest jobs are listed.") package var id: String?
    @Option(help: "How many jobs to list.") package var limit = 20
    @Flag(help: "Show who is connected, and which weights and adapters denoisers have ready.") package var workers =
        false
    @OptionGroup package var connection: ServerOptions

    package init() {}

    package func validate() throws {
        guard id == nil || !workers else { throw ValidationError("Name a job or --workers.") }
    }

    package func run() async throws {
        let client = try GatewayClient(server: connection.server)
        if workers {
            for line in try await client.workerList().lines { Console.print(line) }
            return
        }
        guard let id else {
            let list = try await client.list(limit: limit)
            for job in list.data { Console.print(Self.line(job)) }
            for cell in list.unreachableCells ?? [] { Console.note("cell \(cell) does not answer; its jobs wait") }
            return
        }
        let status = try await client.status(id)
        Console.print(Self.line(status))
        for stage in status.stages { Console.print(ProgressDisplay.bar(stage) + "  \(stage.worker)") }
        if let deadline = Self.deadline(of: status, now: Date().timeIntervalSince1970) { Console.print(deadline) }
        if let cell = status.cell { Console.print("  cell: \(cell)") }
        for note in status.notes { Console.print("  note: \(note)") }
        if let problem = status.error { Console.print("  \(problem.code): \(problem.message)") }
    }

    /// `  deadline 2026-01-01T12:00:00Z, in 90 s`; nil without one.
    package static func deadline(of status: VideoStatus, now: Double) -> String? {
        guard let at = status.deadlineAt else { return nil }
        let text = "  deadline \(Date(timeIntervalSince1970: Double(at)).ISO8601Format())"
        let left = Double(at) - now
        guard !status.isTerminal, left > 0 else { return text }
        return "\(text), in \(ProgressDisplay.duration(Int(left * 1000)))"
    }

    private static func line(_ status: VideoStatus) -> String {
        let state = status.status.padding(toLength: 12, withPad: " ", startingAt: 0)
        return "\(status.id)  \(state) \(status.progress) %  \(status.prompt ?? "")"
    }
}

/// `zoetrope watch ID`: progress until the job ends.
package struct WatchCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "watch", abstract: "Follow a job until it ends; fails when the job failed.")

    @Argument(help: "Job id.") package var id: String
    @Option(help: "Folder for pictures of what the steps foretell, as JPEG files.") package var previews: String?
    @OptionGroup package var connection: ServerOptions

    package init() {}

    package func run() async throws {
        let client = try GatewayClient(server: connection.server)
        var display = ProgressDisplay(isTerminal: Console.isTerminal) { Console.write($0) }
        let files = try previews.map { (folder) throws(Failure) in try PreviewFiles(folder: folder) }
        let saving = files.map { files in
            Task { [id] in for await picture in client.previews(id) { try files.save(picture) } }
        }
        defer { saving?.cancel() }
        for try await status in client.watch(id) {
            display.show(status)
            if let problem = status.error { throw Failure(problem.code, problem.message) }
        }
    }
}

/// `zoetrope cancel ID`.
package struct CancelCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "cancel", abstract: "Stop a job at its next step.")

    @Argument(help: "Job id.") package var id: String
    @OptionGroup package var connection: ServerOptions

    package init() {}

    package func run() async throws {
        let client = try GatewayClient(server: connection.server)
        try await client.cancel(id)
        Console.print("\(id) is cancelled")
    }
}

/// `zoetrope fetch ID`: downloads the finished video and its contact sheet.
package struct FetchCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "fetch", abstract: "Download the video of a finished job.")

    @Argument(help: "Job id.") package var id: String
    @Option(help: "File to write. [default: ID.mp4 or what the job made]") package var output: String?
    @Flag(help: "Write the contact sheet beside it.") package var contactSheet = false
    @OptionGroup package var connection: ServerOptions

    package init() {}

    package func run() async throws {
        let client = try GatewayClient(server: connection.server)
        let status = try await client.status(id)
        if let problem = status.error { throw Failure(problem.code, problem.message) }
        let path = output ?? "\(id).\(status.container ?? "mp4")"
        try OutputFiles.write(try await client.content(id, variant: "video"), to: path)
        Console.print("wrote \(path)")
        guard contactSheet else { return }
        let sheet = URL(fileURLWithPath: path).deletingPathExtension().path + ".png"
        try OutputFiles.write(try await client.content(id, variant: "spritesheet"), to: sheet)
        Console.print("wrote \(sheet)")
    }
}
