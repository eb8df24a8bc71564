import Foundation
import Testing

@Suite("The pages are true")
struct DocumentationTests {
    static let root = PackageManifest.root

    @Test("every link to a file of the repository leads somewhere")
    func linksResolve() throws {
        let link = /\]\(([^)#\s]+)(?:#[^)]*)?\)/
        let pages = try SourceFile.all(in: ["docs", "compose"], extensions: ["md"]) + [readme()]
        #expect(pages.count > 5, "only \(pages.count) pages found: the scan is broken")
        for page in pages {
            let folder = Self.root.appendingPathComponent(page.path).deletingLastPathComponent()
            for (number, line) in page.lines.enumerated() {
                for match in line.matches(of: link) where !match.1.contains("://") {
                    let target = folder.appendingPathComponent(String(match.1)).path
                    #expect(FileManager.default.fileExists(atPath: target), "\(page.path):\(number + 1): \(match.1)")
                }
            }
        }
    }

    @Test("every error code of the sources stands in docs/errors.md, and no other")
    func errorCodesAreListed() throws {
        let page = try String(contentsOf: Self.root.appendingPathComponent("docs/errors.md"), encoding: .utf8)
        let listed = Set(page.matches(of: /(?m)^\| `([a-z0-9_]+)` \|/).map { String($0.1) })
        let sources = try SourceFile.all(in: ["Shared", "Services"], extensions: ["swift"])
            .map { $0.lines.joined(separator: "\n") }
        var raised: Set<String> = []
        for text in sources {
            for match in text.matches(of: /(?:(?:Failure|ErrorReply)\(\s*(?:code:\s*)?|\bcode: )"([a-z0-9_]+)"/) {
                raised.insert(String(match.1))
            }
        }
        #expect(raised.count > 50, "only \(raised.count) codes found: the scan is broken")
        #expect(raised.subtracting(listed).sorted() == [], "missing in docs/errors.md")
        let known = sources.joined()
        let invented = listed.filter { !known.contains("\"\($0)\"") }
        #expect(invented.sorted() == [], "in docs/errors.md, but nothing raises them")
    }

    @Test("every option that the pages give an executable exists in its sources")
    func optionsExist() throws {
        let sources = try SourceFile.all(
            in: ["Services", "Shared", "compose", "Tests"], extensions: ["swift", "sh", "py"]
        )
        .map { $0.lines.joined(separator: "\n") }.joined()
        let names = Set(sources.matches(of: /\b(?:var|let) ([a-z][A-Za-z0-9]*)/).map { Self.flag(String($0.1)) })
        for page in try SourceFile.all(in: ["docs"], extensions: ["md"]) + [readme()] {
            for (number, line) in page.lines.enumerated() where line.contains("zoetrope") {
                for match in line.matches(of: /\s--([a-z][a-z-]*[a-z])/) {
                    let isKnown = names.contains(String(match.1)) || sources.contains("--\(match.1)")
                    #expect(isKnown, "\(page.path):\(number + 1): --\(match.1)")
                }
            }
        }
    }

    /// The flag that ArgumentParser makes of a property's name.
    private static func flag(_ property: String) -> String {
        property.reduce(into: "") { name, letter in
            name += letter.isUppercase ? "-" + letter.lowercased() : String(letter)
        }
    }

    private func readme() throws -> SourceFile {
        SourceFile(
            path: "README.md",
            text: try String(contentsOf: Self.root.appendingPathComponent("README.md"), encoding: .utf8))
    }
}
