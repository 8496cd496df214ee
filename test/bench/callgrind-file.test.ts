import { expect, test } from 'vitest'
import { CodeMap, functionsIn } from '../../bench/callgrind-file.ts'

// The second entry is what is left of code that was moved.
const MAP = `1000 100 Builtins_Call
1000 40 JS:^slow file:///a.js:1:1
2000 80 JS:*fast file:///a.js:2:1
`

const COUNTS = `version: 1
positions: line
events: Ir

fn=(1) main
16 100
+3 20
cfn=(2) 0x0000000000002010
calls=2 0
17 5000
18 1

fn=(2)
0 4000
cfn=(3) 0x0000000000001020
calls=1 0
0 1000

fn=(3)
0 600
fn=(4) 0x0000000000001050'2
-1 400
fn=(5) 0x0000000000009000
* 7

totals: 5128
`

test('what each function executes itself, by the names of V8', () => {
  expect(Object.fromEntries(functionsIn(COUNTS, new CodeMap(MAP)))).toEqual({
    main: 121,
    'JS:*fast file:///a.js:2:1': 4000,
    'JS:^slow file:///a.js:1:1': 600,
    Builtins_Call: 400,
    '0x0000000000009000': 7,
  })
})
