import { readFileSync } from 'node:fs'

// Adds up Vitest's JSON reports, whose paths are the arguments, and prints `N passed, N failed` as the last line. Exits
// with 1 unless every report is there and all of its tests ran and passed: in CI a skipped test means that a program it
// needs is not installed. Only the siblings of attacks are left out there: they run where CAUSEWAY_TEST_LONG is 1.

let passed = 0
let failed = 0
let isComplete = true

function complain(text) {
  console.error(text)
  isComplete = false
}

for (const file of process.argv.slice(2)) {
  try {
    const report = JSON.parse(readFileSync(file, 'utf8'))
    passed += report.numPassedTests
    failed += report.numFailedTests
    for (const { name, status, assertionResults } of report.testResults) {
      const notRun = assertionResults.filter(
        ({ status, title }) => status !== 'passed' && status !== 'failed' && !title.startsWith('sibling'),
      )
      for (const { fullName } of notRun) complain(`skipped: ${name}: ${fullName}`)
      // A file that cannot be loaded has no tests that could fail.
      if (status === 'failed' && !assertionResults.some((test) => test.status === 'failed')) {
        complain(`failed outside of its tests: ${name}`)
        failed += 1
      }
    }
    if (report.numTotalTests === 0) complain(`${file}: no test ran`)
    if (!report.success) isComplete = false
  } catch (error) {
    complain(`${file}: ${error.message}`)
  }
}
console.log(`${passed} passed, ${failed} failed`)
if (!isComplete || passed === 0 || failed > 0) process.exitCode = 1
