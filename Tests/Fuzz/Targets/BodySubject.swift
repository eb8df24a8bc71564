import Checkpoint
import DemoModel
import Failure
import FoundationEssentials
import Request
import Wire

/// JSON bodies, forms and header parameters. A body that is accepted must become a SUBMIT that fits into its frame.
struct BodySubject: FuzzSubject {
    private let traits: ModelTraits

    init() throws {
        traits = try ModelTraits(folder: ModelFolder(path: DemoModel.path()), digest: String(repeating: "0", count: 64))
    }

    func run(_ input: [UInt8]) async throws {
        var reader = InputReader(input)
        let kind = reader.byte() % 3
        let draft: RequestDraft
        let submit: Submit
        do throws(Failure) {
            switch kind {
            case 0: draft = try RequestDraft(json: Data(reader.rest()))
            case 1: draft = try RequestDraft(form: try MultipartForm.parts(reader.rest(), boundary: "b"))
            default:
                let header = String(decoding: reader.rest(), as: UTF8.self)
                _ = HeaderParameters.value("boundary", in: header)
                return
            }
            let generation = try draft.resolved(for: traits)
            submit = try JobGraph.submit(
                for: generation, traits: traits, initialLatents: nil, upsamplerAvailable: true, idempotencyKey: "")
        } catch {
            try Finding.require(!error.code.isEmpty && !error.message.isEmpty, "a refusal without a reason: \(error)")
            try Finding.require(error.message.utf8.count <= 4096, "a refusal of \(error.message.utf8.count) bytes")
            return
        }
        do throws(Failure) {
            _ = try EnvelopeCodec.encode(
                Envelope(session: .random(), sequence: 1, brokerEpoch: 0, inReplyTo: 0, message: .submit(submit)))
        } catch {
            throw Finding("the request was accepted, but its SUBMIT cannot be sent: \(error)")
        }
    }
}
