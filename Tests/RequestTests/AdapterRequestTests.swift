import Failure
import Foundation
import Request
import Testing
import Wire

@Suite("A request may name adapters")
struct AdapterRequestTests {
    private func resolved(_ loras: String) throws -> GenerationRequest {
        try RequestDraft(json: Data("{\"prompt\": \"a boat\", \"seed\": 3, \"loras\": \(loras)}".utf8))
            .resolved(for: ModelFixtures.cogVideoX2b())
    }

    private func submit(_ request: GenerationRequest, digests: [String]) throws -> Submit {
        var request = request
        if let loras = request.loras {
            request.loras = zip(loras, digests).map { AdapterUse(name: $0.name, weight: $0.weight, digest: $1) }
        }
        return try JobGraph.submit(for: request, traits: ModelFixtures.cogVideoX2b())
    }

    @Test("names and weights come as they are given; a weight that is left out is 1")
    func list() throws {
        let request = try resolved(
            #"[{"name": "style", "weight": 0.5}, {"path": "people/anna"}, {"name": "x", "weight": -2}]"#)
        #expect(
            request.loras == [
                AdapterUse(name: "style", weight: 0.5), AdapterUse(name: "people/anna"),
                AdapterUse(name: "x", weight: -2),
            ])
        #expect(try resolved("[]").loras == nil)
        #expect(try resolved("null").loras == nil)
    }

    @Test("a form gives the list as JSON text")
    func form() throws {
        let draft = try RequestDraft(form: [
            FormPart(name: "prompt", content: .text("a boat")),
            FormPart(name: "loras", content: .text(#"[{"name": "style", "weight": 0.5}]"#)),
        ])
        #expect(draft.loras == [AdapterUse(name: "style", weight: 0.5)])
    }

    @Test(
        "what cannot be meant is refused by name",
        arguments: [
            (#""style""#, "wrong_type", "loras"), (#"{"name": "style"}"#, "wrong_type", "loras"),
            (#"["style"]"#, "wrong_type", "loras"), (#"[[]]"#, "wrong_type", "loras"),
            (#"[{"weight": 1}]"#, "adapter_name_invalid", "loras[0]"),
            (#"[{"name": 3}]"#, "wrong_type", "loras[0].name"),
            (#"[{"name": "a", "path": "a"}]"#, "fields_conflict", "loras[0].path"),
            (#"[{"name": "a", "digest": "x"}]"#, "unknown_field", "loras[0].digest"),
            (#"[{"name": "a", "weight": "1"}]"#, "wrong_type", "loras[0].weight"),
            (#"[{"name": "a", "weight": 11}]"#, "adapter_weight_out_of_range", "loras[0].weight"),
            (#"[{"name": "a", "weight": -10.5}]"#, "adapter_weight_out_of_range", "loras[0].weight"),
            (#"[{"name": "a"}, {"name": "a"}]"#, "adapter_repeated", "loras[1]"),
            (#"[{"name": ""}]"#, "adapter_name_invalid", "loras[0]"),
            (#"[{"name": "../a"}]"#, "adapter_name_invalid", "loras[0]"),
            (#"[{"path": "/etc/passwd"}]"#, "adapter_name_invalid", "loras[0]"),
            (#"[{"path": "a/../../b"}]"#, "adapter_name_invalid", "loras[0]"),
            ("[" + (0..<9).map { "{\"name\": \"a\($0)\"}" }.joined(separator: ",") + "]", "adapters_too_many", "loras"),
        ])
    func refusals(json: String, code: String, field: String) throws {
        let failure = try #require(throws: Failure.self) { try resolved(json) }
        #expect(failure.code == code && failure.field == field, "\(failure)")
    }

    @Test("adapters reach the denoiser with their digests, and make request and affinity others")
    func reaches() throws {
        let named = try resolved(#"[{"name": "style", "weight": 0.5}]"#)
        let plain = try submit(resolved("[]"), digests: []), one = try submit(named, digests: ["aa"])
        let parameters = try CanonicalJSON.decode(DenoiseParameters.self, from: one.tasks[1].parameters)
        #expect(parameters.loras == [AdapterUse(name: "style", weight: 0.5, digest: "aa")])
        #expect(!plain.tasks[1].parameters.contains("loras") && plain.tasks[1].affinity == "float32")
        #expect(one.tasks[1].affinity.hasPrefix("float32+") && one.tasks[1].affinity.utf8.count <= Limits.nameBytes)
        #expect(one.tasks.filter { $0.name != "denoise" }.allSatisfy { $0.affinity.isEmpty })
        let other = try submit(named, digests: ["bb"])
        #expect(Set([plain, one, other].map(\.requestDigest)).count == 3)
        #expect(other.tasks[1].affinity != one.tasks[1].affinity)
    }

    @Test("the affinity follows contents and weights, not names, and leaves out what changes nothing")
    func affinity() throws {
        func identity(_ uses: [AdapterUse]) -> String { uses.identity }
        let style = AdapterUse(name: "style", weight: 0.5, digest: "aa")
        var renamed = style
        renamed.name = "other"
        var stronger = style
        stronger.weight = 0.6
        let none = AdapterUse(name: "none", weight: 0, digest: "bb")
        #expect(identity([style]) == identity([renamed]) && identity([style, none]) == identity([style]))
        #expect(identity([style]) != identity([stronger]) && identity([none]).isEmpty)
    }

    @Test("a job whose adapters nobody has looked up is not submitted")
    func unresolved() throws {
        let failure = try #require(throws: Failure.self) {
            try JobGraph.submit(
                for: resolved(#"[{"name": "style"}]"#), traits: ModelFixtures.cogVideoX2b())
        }
        #expect(failure.code == "adapters_unavailable")
    }
}
