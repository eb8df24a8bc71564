import Foundation
import Testing

/// The table of promises in docs/reliability.md names what proves each of them; all of it must exist.
@Suite("The promises are backed")
struct PromiseTests {
    private struct Promise {
        let name: String
        let rows: [String]
        let invariants: [String]
        let tests: [String]
        let mutants: [String]
    }

    private static let root = PackageManifest.root

    @Test("every promise of bus.md is there, with a row of the failure matrix and a test")
    func complete() throws {
        let promises = try Self.promises()
        #expect(promises.map(\.name) == (1...11).map { "P\($0)" })
        for promise in promises {
            #expect(!promise.rows.isEmpty && !promise.tests.isEmpty, "\(promise.name) has no row or no test")
        }
    }

    @Test("every row that proves a promise is a case of Tests/Chaos and ok in the matrix")
    func rows() throws {
        let cases = try SourceFile.all(in: ["Tests/Chaos"], extensions: ["py"]).map { $0.lines.joined(separator: "\n") }
            .joined()
        let matrix = try Self.table("chaos matrix")
        for promise in try Self.promises() {
            for row in promise.rows {
                let isThere = cases.contains("@case(\(row),") || cases.contains("@case(\"\(row)\",")
                #expect(isThere, "\(promise.name): no case \(row)")
                let result = matrix.first { $0.first == row }.map { $0[3] }
                #expect(result == "ok", "\(promise.name): row \(row) is \(result ?? "not there")")
            }
        }
    }

    @Test("every invariant, test and mutant that proves a promise exists")
    func proofs() throws {
        func text(of folder: String) throws -> String {
            try SourceFile.all(in: [folder], extensions: ["swift"])
                .map { $0.lines.joined(separator: "\n") }.joined(separator: "\n")
        }
        let invariants = try text(of: "Tests/Simulator")
        let tests = try text(of: "Tests")
        for promise in try Self.promises() {
            for invariant in promise.invariants {
                #expect(invariants.contains("= \"\(invariant)\""), "\(promise.name): no invariant “\(invariant)”")
            }
            for test in promise.tests {
                let escaped = NSRegularExpression.escapedPattern(for: "\"\(test)\"")
                let isThere = tests.range(of: "@Test\\(\\s*" + escaped, options: .regularExpression) != nil
                #expect(isThere, "\(promise.name): no test “\(test)”")
            }
            for mutant in promise.mutants {
                let path = Self.root.appendingPathComponent("Tests/Mutants/\(mutant).mutant").path
                #expect(FileManager.default.fileExists(atPath: path), "\(promise.name): no mutant \(mutant)")
            }
        }
    }

    /// The cells of a table between the page's marks of this name, without its head.
    private static func table(_ name: String) throws -> [[String]] {
        let page = try String(contentsOf: root.appendingPathComponent("docs/reliability.md"), encoding: .utf8)
        let parts = page.components(separatedBy: ["<!-- \(name) -->", "<!-- end of \(name) -->"])
        try #require(parts.count == 3, "docs/reliability.md has no table \(name)")
        return parts[1].split(separator: "\n").dropFirst(2).map { line in
            line.dropFirst().dropLast().replacingOccurrences(of: "\\|", with: "/").components(separatedBy: "|")
                .map { $0.trimmingCharacters(in: .whitespaces) }
        }
    }

    private static func promises() throws -> [Promise] {
        let table = try table("promises")
        #expect(table.count > 10, "only \(table.count) promises found: the scan is broken")
        return try table.map { cells in
            try #require(cells.count == 5, "\(cells)")
            func quoted(_ text: String) -> [String] { text.matches(of: /“([^”]+)”/).map { String($0.1) } }
            func coded(_ text: String) -> [String] { text.matches(of: /`([^`]+)`/).map { String($0.1) } }
            return Promise(
                name: try #require(cells[0].firstMatch(of: /\*\*(P\d+)\*\*/).map { String($0.1) }),
                rows: coded(cells[1]), invariants: quoted(cells[2]), tests: quoted(cells[3]), mutants: coded(cells[4]))
        }
    }
}

extension String {
    fileprivate func components(separatedBy marks: [String]) -> [String] {
        marks.reduce([self]) { parts, mark in parts.flatMap { $0.components(separatedBy: mark) } }
    }
}
