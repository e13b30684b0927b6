-- Conway's Life on an unbounded board, cells as string keys, and its history as text.
local cells = {}
local seed = 12345
for i = 1, 600 do
  seed = (seed * 1103515245 + 12345) % 2147483648
  cells[(seed // 64) % 40 .. "," .. (seed // 4096) % 40] = true
end
local history = {}
for generation = 1, 60 do
  local neighbours = {}
  for cell in pairs(cells) do
    local x, y = cell:match("(-?%d+),(-?%d+)")
    for dx = -1, 1 do
      for dy = -1, 1 do
        if dx ~= 0 or dy ~= 0 then
          local key = math.tointeger(x + dx) .. "," .. math.tointeger(y + dy)
          neighbours[key] = (neighbours[key] or 0) + 1
        end
      end
    end
  end
  local after, size = {}, 0
  for key, n in pairs(neighbours) do
    if n == 3 or (n == 2 and cells[key]) then
      after[key] = true
      size = size + 1
    end
  end
  cells = after
  history[#history + 1] = string.format("%d:%d", generation, size)
end
print(table.concat(history, " "))
