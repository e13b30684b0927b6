-- A small shop: insert, index, join, aggregate, update, delete.
create table customer (id integer primary key, name text, city text);
create table item (id integer primary key, customer int, amount real, what text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 800)
  insert into customer select i, 'customer ' || (i * 7919 % 1000), 'city ' || (i % 37) from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 36000)
  insert into item select i, 1 + i * 104729 % 800, (i * 31 % 997) / 10.0, 'thing ' || (i * 13 % 211) from n;
create index by_customer on item (customer);
create index by_what on item (what, amount);
select city, count(*), round(sum(amount), 2) from item join customer on customer.id = item.customer
  group by city order by 3 desc limit 5;
select upper(what), group_concat(customer, ';') from item group by what having count(*) > 50 limit 3;
update item set what = replace(what, 'thing', 'object') where amount > 50;
delete from item where id % 5 = 0;
select what, printf('%.1f', avg(amount)) from item where what like 'object%' group by what limit 5;
select count(*) from (select distinct substr(name, 1, 11) || city from customer);
