import Failure
import Foundation
import HummingbirdTesting
import Testing
import Wire

@Suite("What the pages say about metrics")
struct MetricNamesTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private func file(_ path: String) throws -> String {
        try String(contentsOf: Self.root.appendingPathComponent(path), encoding: .utf8)
    }

    private func names(_ text: String) -> Set<String> {
        Set(text.matches(of: /\bzoetrope_[a-z_]+/).map { String($0.0) })
    }

    /// What /metrics tells of a cluster whose broker counts everything.
    private func exposition() async throws -> String {
        let service = FakeJobService(workers: GatewayFixture.completeCluster)
        await service.count(BrokerCount.allCases.map { .init(name: $0.rawValue, value: 1) })
        let fixture = try GatewayFixture(service: service)
        let answers = AsyncStream.makeStream(of: String.self)
        try await fixture.test { client in
            _ = try await client.get("/healthz")
            answers.continuation.yield(try await client.get("/metrics").text)
            answers.continuation.finish()
        }
        for await text in answers.stream { return text }
        throw Failure("unexpected", "no answer")
    }

    @Test("the table of the operator's page has every metric, label and reason, and no others")
    func table() async throws {
        let text = try await exposition()
        let page = try file("docs/operations.md")
        let start = try #require(page.range(of: "### What to watch")?.upperBound)
        let end = try #require(page.range(of: "\n## ", range: start..<page.endIndex)?.lowerBound)
        let section = String(page[start..<end])
        #expect(names(section) == names(text))
        for match in section.matches(of: /`(zoetrope_[a-z_]+)\{([a-z,]+)\}`/) {
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("\(match.1){") }, "\(match.1)")
            let labels = line.matches(of: /([a-z]+)="/).map { String($0.1) }
            #expect(labels.joined(separator: ",") == match.2, "\(line)")
        }
        let reasons = Set(section.matches(of: /(?m)^\| `([a-z_]+)` \| a\s/).map { String($0.1) })
        #expect(reasons == Set(BrokerCount.allCases.compactMap(\.refusalReason)))
    }

    @Test("the example rules watch metrics, stages and reasons that exist")
    func rules() async throws {
        let text = try await exposition()
        let rules = try file("docs/alerts.yaml")
        #expect(rules.matches(of: /(?m)^ +- alert: Zoetrope[A-Za-z]+$/).count >= 8)
        #expect(names(rules).subtracting(names(text)).isEmpty, "\(names(rules).subtracting(names(text)))")
        for match in rules.matches(of: /([a-z]+)(?:=~|=)"([a-z_|-]+)"/) where match.1 != "status" {
            for value in match.2.split(separator: "|") {
                #expect(text.contains("\(match.1)=\"\(value)\""), "\(match.1)=\(value)")
            }
        }
    }
}
